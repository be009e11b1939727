"""The page's files: what the gateway's content policy and plain care ask for, and the tests of its modules."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "gateway" / "web"
TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))
SCRIPTS = sorted(WEB.glob("*.js"))
HTML = (WEB / "index.html").read_text()
CSS = (WEB / "style.css").read_text()
#: Modules that know neither page nor clock: node can run them as they are.
PURE = ("bars", "book", "chain", "format", "longbars", "orders", "scale", "status", "stream", "ticket")

_NODE = shutil.which("node")
needs_node = pytest.mark.skipif(_NODE is None, reason="node is not installed: the page's own tests need it")


class Page(HTMLParser):
    """Every tag of the page with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.wrapped: list[dict[str, str]] = []  # attributes of what stands inside of a label
        self._labels = 0
        self.feed(HTML)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._labels += tag == "label"
        if self._labels:
            self.wrapped.append(self.tags[-1][1])

    def handle_endtag(self, tag: str) -> None:
        self._labels -= tag == "label"

    def values(self, *names: str) -> Iterator[str]:
        return (attrs[name] for _, attrs in self.tags for name in names if name in attrs)


PAGE = Page()
IDS = list(PAGE.values("id"))


def code(path: Path) -> str:
    """A script without its comments."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    return re.sub(r"(^|\s)//.*", r"\1", text)


def all_code() -> str:
    return "\n".join(map(code, SCRIPTS))


def node(*arguments: str | Path) -> None:
    done = subprocess.run([str(_NODE), *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# What node says


@needs_node
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_modules_pass_their_own_tests(path: Path) -> None:
    node("--test", path)


@needs_node
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_parses(path: Path) -> None:
    node("--check", path)


# What the content policy would refuse


def test_nothing_comes_from_elsewhere() -> None:
    found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", HTML + CSS + all_code() + (WEB / "icon.svg").read_text())
    assert [url for url in found if "www.w3.org/2000/svg" not in url] == ["http://www.w3.org"]  # a name, not an address
    for address in PAGE.values("src", "href"):
        assert address.startswith(("/static/", "#", "/docs"))


def test_every_file_the_page_names_is_there() -> None:
    for address in PAGE.values("src", "href"):
        if address.startswith("/static/"):
            assert (WEB / address.removeprefix("/static/")).is_file(), address


def test_there_is_no_inline_script_style_or_handler() -> None:
    for tag, attrs in PAGE.tags:
        assert tag != "style"
        assert tag != "script" or attrs.get("src")
        assert not [name for name in attrs if name == "style" or name.startswith("on")], (tag, attrs)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_data_cannot_become_markup_or_code(path: Path) -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setAttribute\(\"(style|on)"
    )
    assert not re.search(forbidden, code(path))
    assert not re.search(r"(setTimeout|setInterval)\(\s*[\"'`]", code(path))


# What belongs together


def test_ids_are_unique() -> None:
    assert len(IDS) == len(set(IDS))


def test_every_id_that_is_spoken_of_exists() -> None:
    used = set(re.findall(r"byId\(\"([\w-]+)\"\)", all_code()))
    assert used
    made = {"found-"}  # the search makes these, with a number
    spoken = set(
        chain.from_iterable(map(str.split, PAGE.values("aria-controls", "aria-labelledby", "aria-describedby", "for")))
    )
    styled = set(re.findall(r"#([a-z][\w-]*)(?=[^;{}]*\{)", CSS))
    assert (used | spoken | styled) - set(IDS) - made == set()


def test_every_class_that_the_scripts_use_is_styled_or_on_the_page() -> None:
    text = all_code()
    made = chain.from_iterable(
        re.split(r"\s+", found) for found in re.findall(r"class: [\"`]([\w $\{\}-]+)[\"`]", text)
    )
    toggled = re.findall(r"classList\.\w+\(\"([\w-]+)\"", text)
    asked = re.findall(r"(?:closest|querySelector(?:All)?)\(\"\.([\w-]+)", text)
    styled = set(re.findall(r"\.([a-zA-Z][\w-]*)", CSS))
    here = set(" ".join(PAGE.values("class")).split())
    # Names of cells that only tell them apart.
    plain = {"value", "iv", "bid", "none", "when", "open", "high", "low", "close"}
    names = {name for name in chain(made, toggled, asked) if name and "$" not in name and "{" not in name}
    assert names
    assert names - styled - here - plain == set()


def test_every_class_on_the_page_is_styled() -> None:
    styled = set(re.findall(r"\.([a-zA-Z][\w-]*)", CSS))
    assert set(" ".join(PAGE.values("class")).split()) - styled == set()


def test_every_import_is_there_and_is_used() -> None:
    for path in SCRIPTS:
        for names, source in re.findall(r"import (.+?) from \"(.+?)\";", code(path), flags=re.S):
            module = WEB / source
            assert module.is_file(), f"{path.name}: {source}"
            if names.startswith("*"):
                continue
            for name in re.findall(r"\w+", names):
                assert re.search(rf"export (async )?(const|function|class) {name}\b", module.read_text()), name
                assert len(re.findall(rf"\b{name}\b", code(path))) > 1, f"{path.name} does not use {name}"


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_knows_no_page_and_no_clock(name: str) -> None:
    text = code(WEB / f"{name}.js")
    assert not re.search(
        r"\b(document|window|localStorage|fetch|setTimeout|Date\.now|performance|Math\.random)\b", text
    )
    for source in re.findall(r"from \"\./(\w+)\.js\"", text):
        assert source in PURE


# What people need


def test_tables_have_captions_and_headers_with_a_scope() -> None:
    tags = [tag for tag, _ in PAGE.tags]
    assert tags.count("caption") == tags.count("table") == 6
    assert all("scope" in attrs for tag, attrs in PAGE.tags if tag == "th")


def test_everything_one_can_use_has_a_name() -> None:
    labelled = set(PAGE.values("for"))
    for tag, attrs in PAGE.tags:
        if tag in ("input", "select", "canvas", "nav"):
            assert "aria-label" in attrs or attrs.get("id") in labelled or attrs in PAGE.wrapped, attrs
    assert ("html", {"lang": "en-IN", "data-theme": "dark"}) in PAGE.tags


def test_the_state_of_the_feed_is_announced() -> None:
    live = {attrs["id"] for _, attrs in PAGE.tags if attrs.get("role") == "status"}
    assert live == {"feed", "notices"}


def test_motion_stops_for_those_who_ask_for_it() -> None:
    assert re.search(r"@media \(prefers-reduced-motion: reduce\) \{[^}]*animation: none", CSS)


def colours(selector: str) -> dict[str, str]:
    block = re.search(re.escape(selector) + r" \{(.*?)\n\}", CSS, flags=re.S)
    assert block is not None
    return dict(re.findall(r"--([\w-]+): (#\w+);", block[1]))


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [":root", ':root[data-theme="light"]'])
def test_text_stands_out_from_what_is_behind_it(theme: str) -> None:
    found = colours(theme)
    behind = ("bg", "panel", "raised", "money", "in")
    pairs = [(ink, paper) for ink in ("text", "muted", "up", "down", "oi", "accent") for paper in behind]
    pairs += [("on-accent", "accent"), ("on-colour", "up"), ("on-colour", "down")]
    faint = {pair: contrast(found[pair[0]], found[pair[1]]) for pair in pairs}
    assert {pair: round(ratio, 2) for pair, ratio in faint.items() if ratio < 4.5} == {}
