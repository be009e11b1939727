// Folds quotes with the page's own code: reads {scenario: [quote]} from a file, prints {scenario: [bar]}.

import { readFileSync } from "node:fs";

import { Series } from "../../gateway/web/bars.js";

const scenarios = JSON.parse(readFileSync(process.argv[2], "utf8"));
const folded = scenarios.map((quotes) => {
  const series = new Series();
  for (const quote of quotes) series.tick(quote);
  return series.bars;
});
process.stdout.write(JSON.stringify(folded));
