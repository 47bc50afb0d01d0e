// The filter language of the feature table (microtome/features/query.py), for copies that have no server to ask.

/** @typedef {import("./api.js").FourParts} FourParts */
/** @typedef {(row: any) => boolean} Test */

const TOKEN = /\s*(?:("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(>=|<=|!=|!~|==|[><=~()])|([^\s><=!~()"']+)|(\S))/gy;
const DEEPEST = 50;

/** @type {Record<string, (a: number, b: number) => boolean>} */
const NUMBERS = { ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b, "=": (a, b) => a === b, "==": (a, b) => a === b, "!=": (a, b) => a !== b };
/** @type {Record<string, (a: string, b: string) => boolean>} a list of texts holds when one of them does; with ! when none does */
const TEXTS = { "=": (a, b) => a === b, "==": (a, b) => a === b, "!=": (a, b) => a === b, "~": (a, b) => a.includes(b), "!~": (a, b) => a.includes(b) };

/** What a filter that cannot be read is told. */
class Unreadable extends Error {
  /** @param {string} what @param {string} got @param {string} wanted */
  constructor(what, got, wanted) {
    super(what);
    /** @type {FourParts} */
    this.parts = { error: "QueryInvalid", what, got, wanted, do: 'Write it like: density > 0.01 and label ~ "france"' };
  }
}

/** The rows that pass; an empty filter lets all pass. @param {readonly any[]} rows @param {string} filter @returns {{ rows: readonly any[] } | { parts: FourParts }} */
export function select(rows, filter) {
  if (!filter.trim() || rows.length === 0) return { rows };
  try {
    return { rows: rows.filter(reading(filter, rows[0])) };
  } catch (error) {
    if (error instanceof Unreadable) return { parts: error.parts };
    throw error;
  }
}

/** @param {string} filter @param {any} example a row, for its columns @returns {Test} */
function reading(filter, example) {
  const tokens = [...filter.matchAll(TOKEN)].map((found) => ({ text: found[1] ?? found[2] ?? found[3] ?? found[4], isText: found[1] !== undefined, isWord: found[3] !== undefined }));
  let next = 0;
  let depth = 0;
  const ahead = () => tokens[next];
  const is = (/** @type {string} */ word) => ahead()?.isWord === true && ahead().text.toLowerCase() === word;
  const bad = (/** @type {string} */ wanted) => new Unreadable(`the filter cannot be read: ${filter}`, ahead()?.text ?? "the end", wanted);
  const enter = () => {
    next++;
    if (++depth > DEEPEST) throw new Unreadable("the filter nests too deeply.", `more than ${DEEPEST} levels`, "few parentheses and nots");
  };
  /** @returns {Test} */
  const either = () => {
    const tests = [both()];
    while (is("or")) next++, tests.push(both());
    return (row) => tests.some((test) => test(row));
  };
  /** @returns {Test} */
  const both = () => {
    const tests = [one()];
    while (is("and")) next++, tests.push(one());
    return (row) => tests.every((test) => test(row));
  };
  /** @returns {Test} */
  const one = () => {
    if (!is("not") && ahead()?.text !== "(") return comparison();
    const isNot = is("not");
    enter();
    const inner = isNot ? one() : either();
    if (!isNot && ahead()?.text !== ")") throw bad(")");
    if (!isNot) next++;
    depth--;
    return isNot ? (row) => !inner(row) : inner;
  };
  /** @returns {Test} */
  const comparison = () => {
    const columns = Object.keys(example);
    if (!ahead()?.isWord) throw bad(`a column: ${columns.join(", ")}`);
    const name = tokens[next++].text;
    if (!columns.includes(name)) throw new Unreadable(`the feature table has no column "${name}".`, name, columns.join(", "));
    const isNumber = typeof example[name] === "number";
    const known = isNumber ? NUMBERS : TEXTS;
    const compare = ahead()?.text ?? "";
    if (!(compare in known)) throw bad(`one of ${Object.keys(known).join(" ")} after the ${isNumber ? "number" : "text"} column ${name}`);
    next++;
    if (!ahead()?.isWord && !ahead()?.isText) throw bad(`a value to compare ${name} with`);
    const value = tokens[next].text;
    if (!isNumber) {
      const wanted = (tokens[next++].isText ? value.slice(1, -1).replace(/\\(.)/g, "$1") : value).toLowerCase();
      const isNot = compare.startsWith("!");
      return (row) => [row[name]].flat().some((/** @type {string} */ text) => TEXTS[compare](text.toLowerCase(), wanted)) !== isNot;
    }
    const number = value.endsWith("%") ? Number(value.slice(0, -1)) / 100 : Number(value);
    if (Number.isNaN(number)) throw bad(`a number to compare ${name} with`);
    next++;
    return (row) => NUMBERS[compare](row[name], number);
  };
  const test = either();
  if (ahead()) throw bad("and, or, or the end");
  return test;
}
