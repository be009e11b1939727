import numpy as np

from bench import greeks, peer_greeks
from market import black76


def test_the_options_of_the_bench_determine_their_volatility() -> None:
    made = greeks.options()
    price, forward, strike, years, is_call = (made[n] for n in ("price", "forward", "strike", "years", "is_call"))
    vol, flags = black76.implied(price, forward, strike, years, is_call, peer_greeks.RATE)
    assert (flags == black76.Flag.OK).all()
    assert np.abs(vol - made["vol"]).max() < 1e-9
    assert set(is_call.tolist()) == {False, True}


def test_what_a_side_got_wrong_is_counted() -> None:
    made = {"vol": np.array([0.2, 0.2, 0.2, 0.2, 0.2]), "price": np.array([1.0, 0.01, 1.0, 0.01, 1.0])}
    told = greeks._errors("a", np.array([0.2, 0.3, np.nan, np.inf, 0.2000011]), made)
    assert list(told.values()) == [2.0, 2.0, 2.0]
