"use strict";
// Rows are text from strangers: they become text nodes and attribute values, never markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const parsed = (id) => JSON.parse(byId(id).textContent);
  const STRINGS = parsed("strings");
  // Worst first.
  const WORST = ["crashed", "timed_out", "disagrees", "undefined", "diverges", "unsupported", "agrees"];
  const GLYPHS = { agrees: "✓", diverges: "≠", disagrees: "✗", crashed: "‼", timed_out: "…", undefined: "?", unsupported: "–",
    unexpected: "!", stale: "↺", known: "k", ok: "" };
  const SELECTS = ["framework", "function", "dtype", "reduction", "quantity", "status", "expected", "convention", "conversion", "reason_code", "family", "environment", "backend"];
  const CHIPS = ["finding", "known"];
  const FACETS = [...SELECTS, ...CHIPS];
  const SEARCH = 1 << FACETS.length;
  const SEARCHED = ["case", "function", "status", "convention", "explanation", "known", "exception", "bridge", "version", "dtype"];
  const NUMBERS = new Set(["error", "budget", "ratio", "ulps"]);
  const VIEWS = ["matrix", "causes", "errors", "known_view", "table"];
  const BESIDE = ["changes", "sweep", "history"];
  const COLUMNS = ["status", "function", "case", "dtype", "reduction", "quantity", "ratio", "ulps", "why"];
  /** Lines of the matrix that are made at once, and then at a time: it answers a filter before it is whole. */
  const PIECE = 24;
  const home = () => (VIEWS.includes("changes") ? "changes" : "matrix");
  const LINES = { matrix: 400, functions: 80, groups: 300 };

  let active = 0, wasOpened = false;
  let run, rows, columns, facets, fails, shown, language, detailed;
  let state = {};

  // Words

  const word = (key, values = {}) =>
    (STRINGS[language][key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
  const named = (facet, value) => {
    if (value === "") return word("none");
    if (facet === "expected" && value === "known") return word("known_value");
    const known = facet === "status" || facet === "expected" || facet === "quantity";
    return known && Object.hasOwn(STRINGS[language], value) ? word(value) : value;
  };
  const whole = (count) => count.toLocaleString(language === "zh" ? "zh-CN" : "en-US");
  const short = (value) => {
    if (Number.isNaN(value)) return "";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(2);
    return String(Number(value.toPrecision(3)));
  };

  // Elements

  const make = (tag, options = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "class") element.className = value ?? "";
      else if (name === "on") for (const [event, does] of Object.entries(value)) element.addEventListener(event, does);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, String(value));
    }
    element.append(...children.flat().filter((child) => child != null));
    return element;
  };
  const draw = (tag, options = {}) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(options)) element.setAttribute(name, String(value));
    return element;
  };
  const button = (text, does, options = {}) => make("button", { type: "button", on: { click: does }, ...options }, text);
  const mark = (status) => make("span", { class: `mark ${status}`, "aria-hidden": "true" }, GLYPHS[status] ?? "?");
  const tagged = (status) => make("span", { class: "tag" }, mark(status), named("status", status));
  const linked = (text) => text.split(/(https?:\/\/[^\s()<>"'`]+)/).map((part, at) => {
    if (at % 2 === 0) return part;
    let url;
    try { url = new URL(part); } catch { return part; }
    if (url.protocol !== "https:" && url.protocol !== "http:") return part;
    return make("a", { href: url.href, rel: "noopener noreferrer", target: "_blank" }, part);
  });
  const said = (text) => { byId("said").textContent = text; };

  // Data

  const decoded = async (id) => {
    const element = byId(id);
    let value = JSON.parse(element.textContent);
    if (typeof value.gzip === "string") {
      if (typeof DecompressionStream === "undefined") throw new Error(word("old_browser"));
      const text = atob(value.gzip);
      const bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      value = await new Response(stream).json();
    }
    element.textContent = "";
    return value;
  };
  const column = (packed, number) => ({
    values: number ? Float64Array.from(packed.values, Number) : packed.values,
    // Without codes all rows have the same value, or each its own.
    codes: packed.codes === null ? Int32Array.from({ length: rows }, (_, i) => (packed.values.length > 1 ? i : 0)) : Int32Array.from(packed.codes),
  });
  const at = (name, row) => columns[name].values[columns[name].codes[row]];
  const detail = () => (detailed ??= decoded("detail").then((said) => ({
    problems: said.problems,
    ...Object.fromEntries(Object.entries(said.columns).map(([name, one]) => [name, column(one, false)])),
  })));

  let known, besides;
  const beside = () => (besides ??= decoded("beside").then((said) => (known = said)));

  /** What a filter chooses among: for each value of a column, which choices it stands for. */
  const facet = (name) => {
    const own = columns[name];
    const choices = new Map();
    const of = own.values.map((value) =>
      ((name === "convention" || name === "conversion") && value ? value.split("; ") : [value]).map((choice) => {
        if (!choices.has(choice)) choices.set(choice, choices.size);
        return choices.get(choice);
      }));
    return { codes: own.codes, choices: [...choices.keys()], number: choices, of };
  };
  /** A column computed from others. */
  const derived = (valueOf) => {
    const values = [], number = new Map(), codes = new Int32Array(rows);
    for (let i = 0; i < rows; i++) {
      const value = valueOf(i);
      if (!number.has(value)) { number.set(value, values.length); values.push(value); }
      codes[i] = number.get(value);
    }
    return { values, codes };
  };
  const familyOf = (i) => {
    const id = at("case", i), quantity = at("quantity", i);
    return (id.split("/").slice(0, -1).join("/") || id) + (quantity === "loss" ? "" : ` (${quantity})`);
  };
  /** What rows with one finding have in common, whatever their explanations say. */
  const findingOf = (i) => [at("reason_code", i), at("candidate", i)].filter(Boolean).join(": ");
  const prepare = (index) => {
    run = index;
    rows = index.rows;
    VIEWS.push(...BESIDE.filter((name) => index.views.includes(name)));
    columns = {};
    for (const [name, packed] of Object.entries(index.columns)) columns[name] = column(packed, NUMBERS.has(name));
    columns.family = derived(familyOf);
    columns.finding = derived(findingOf);
    facets = Object.fromEntries(FACETS.map((name) => [name, facet(name)]));
    fails = new Int32Array(rows);
  };

  // Filters

  /** Sets in `fails` which filters each row fails, a bit for each, and in `shown` the rows that fail none. */
  const filter = () => {
    fails.fill(0);
    FACETS.forEach((name, bit) => {
      if (state[name] === undefined) return;
      const { codes, number, of } = facets[name];
      const wanted = number.get(state[name]) ?? -1;
      const passes = Uint8Array.from(of, (choices) => (choices.includes(wanted) ? 1 : 0));
      for (let i = 0; i < rows; i++) if (!passes[codes[i]]) fails[i] |= 1 << bit;
    });
    for (const term of (state.q ?? "").toLowerCase().split(/\s+/).filter(Boolean)) {
      const hits = SEARCHED.map((name) => columns[name]).map((own) =>
        [own.codes, Uint8Array.from((own.lower ??= own.values.map((value) => value.toLowerCase())), (value) => (value.includes(term) ? 1 : 0))])
        .filter(([, flags]) => flags.includes(1));
      for (let i = 0; i < rows; i++) {
        let hit = false;
        for (const [codes, flags] of hits) if (flags[codes[i]]) { hit = true; break; }
        if (!hit) fails[i] |= SEARCH;
      }
    }
    shown = sorted(passing());
  };
  /** Rows that pass all filters but those named. */
  const passing = (...but) => {
    const mask = ~but.reduce((bits, name) => bits | (1 << FACETS.indexOf(name)), 0);
    const found = new Int32Array(rows);
    let count = 0;
    for (let i = 0; i < rows; i++) if (!(fails[i] & mask)) found[count++] = i;
    return found.subarray(0, count);
  };
  /** How many rows there would be for each choice of a filter, the others as they are. */
  const tally = (name) => {
    const { codes, choices, of } = facets[name];
    const perValue = new Int32Array(of.length), counts = new Int32Array(choices.length);
    const mask = ~(1 << FACETS.indexOf(name));
    for (let i = 0; i < rows; i++) if (!(fails[i] & mask)) perValue[codes[i]]++;
    of.forEach((own, value) => own.forEach((choice) => { counts[choice] += perValue[value]; }));
    return counts;
  };
  const sorted = (found) => {
    const [, down, name] = /^(-?)(\w+)$/.exec(state.sort ?? "") ?? [];
    if (!COLUMNS.includes(name)) return found;
    const sign = down ? -1 : 1;
    const key = name === "why" ? "explanation" : name;
    const { values, codes } = columns[key];
    const order = Array.from(values, (_, i) => i);
    // What has no value comes last, whichever way.
    if (NUMBERS.has(key)) order.sort((a, b) => Number.isNaN(values[a]) - Number.isNaN(values[b]) || sign * (values[a] - values[b] || 0));
    else if (key === "status") order.sort((a, b) => sign * (WORST.indexOf(values[a]) - WORST.indexOf(values[b])));
    else order.sort((a, b) => (values[a] === "") - (values[b] === "") || sign * (values[a] < values[b] ? -1 : 1));
    // By counting, which is stable and takes one pass.
    const start = new Int32Array(values.length + 1);
    const rank = new Int32Array(values.length);
    order.forEach((value, place) => { rank[value] = place; });
    for (const row of found) start[rank[codes[row]] + 1]++;
    for (let place = 1; place < start.length; place++) start[place] += start[place - 1];
    const placed = new Int32Array(found.length);
    for (const row of found) placed[start[rank[codes[row]]]++] = row;
    return placed;
  };

  // State, in the fragment of the address

  const KEYS = [...FACETS, "q", "sort", "view", "case", "at", "lang"];
  const read = () => {
    const said = new URLSearchParams(location.hash.slice(1));
    state = {};
    for (const key of KEYS) if (said.has(key)) state[key] = said.get(key).slice(0, 4000);
    if (![...VIEWS, ...BESIDE].includes(state.view) || (run && !VIEWS.includes(state.view))) delete state.view;
    const preferred = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
    language = Object.hasOwn(STRINGS, state.lang ?? "") ? state.lang : preferred;
  };
  const fragment = (changes) => {
    const next = new URLSearchParams();
    const merged = { ...state, ...changes };
    for (const key of KEYS) if (merged[key] != null && (merged[key] !== "" || FACETS.includes(key))) next.set(key, merged[key]);
    return `#${next}`;
  };
  const go = (changes, replace = false) => {
    if (Object.keys(changes).some((key) => !["case", "at", "lang"].includes(key))) active = 0;
    const target = fragment(changes);
    if (target !== (location.hash || "#")) history[replace ? "replaceState" : "pushState"](null, "", target);
    read();
    render();
  };
  const only = (filters, view) => go({ ...Object.fromEntries([...FACETS, "q", "case", "at"].map((key) => [key, undefined])), ...filters, view });

  // The parts around the views

  const sayWords = () => {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    document.title = word("title");
    for (const element of document.querySelectorAll("[data-text]")) element.textContent = word(element.dataset.text);
    for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", word(element.dataset.label));
    for (const element of document.querySelectorAll("[data-placeholder]")) element.setAttribute("placeholder", word(element.dataset.placeholder));
    for (const element of document.querySelectorAll("[data-language]")) element.setAttribute("aria-pressed", String(element.dataset.language === language));
    const versions = Object.entries(run.versions).map((pair) => pair.join(" ")).join(", ");
    const about = { functions: columns.function.values.length, cases: columns.case.values.length, rows: whole(rows), versions };
    byId("about").textContent = word("about", about) + (run.missing.length ? ` ${word("missing", { names: run.missing.join(", ") })}` : "");
    byId("incomplete").hidden = run.complete;
    byId("incomplete").textContent = word("incomplete", { rows: whole(rows), planned: whole(run.planned), why: run.why.join("; ") });
  };
  const tile = (name, value, count) => button(make("span", {}, mark(value), make("b", {}, whole(count)), named(name, value)),
    () => go({ [name]: state[name] === value ? undefined : value }), { class: `tile ${value}`, "aria-pressed": String(state[name] === value) });
  const renderTiles = () => {
    const tiles = [];
    for (const [name, order] of [["status", run.statuses], ["expected", ["unexpected", "stale", "known"]]]) {
      const counts = tally(name);
      for (const value of order) {
        const number = facets[name].number.get(value);
        if (number !== undefined) tiles.push(tile(name, value, counts[number]));
        else if (value === "unexpected") tiles.push(tile(name, value, 0));
      }
    }
    kept(byId("tiles"), tiles);
  };
  const renderFacets = () => {
    const labels = SELECTS.filter((name) => facets[name].choices.length > 1 || state[name] !== undefined).map((name) => {
      const counts = tally(name);
      const { choices } = facets[name];
      const order = choices.map((_, i) => i).sort((a, b) => (choices[a] < choices[b] ? -1 : 1));
      // A value starts with =, so that the empty text is another choice than none.
      const options = [make("option", { value: "" }, word("all"))];
      for (const i of order) options.push(make("option", { value: `=${choices[i]}` }, `${named(name, choices[i])} (${whole(counts[i])})`));
      if (state[name] !== undefined && !facets[name].number.has(state[name])) options.push(make("option", { value: `=${state[name]}` }, `${state[name]} (0)`));
      const select = make("select", { id: `by-${name}`, on: { change: (event) => go({ [name]: event.target.value ? event.target.value.slice(1) : undefined }) } }, options);
      select.value = state[name] === undefined ? "" : `=${state[name]}`;
      return make("label", { class: state[name] === undefined ? "" : "set" }, make("span", {}, word(name)), select);
    });
    kept(byId("facets"), labels);
    if (document.activeElement !== byId("query")) byId("query").value = state.q ?? "";
    const chips = CHIPS.filter((name) => state[name] !== undefined).map((name) =>
      button(`${word(name)}: ${state[name]} ✕`, () => go({ [name]: undefined }), { class: "chip", "aria-label": word("remove", { name: `${word(name)}: ${state[name]}` }) }));
    kept(byId("chips"), chips);
    byId("clear").hidden = !FACETS.some((name) => state[name] !== undefined) && !state.q;
    byId("count").textContent = word("count", { shown: whole(shown.length), rows: whole(rows) });
  };
  /** New children in the place of the old ones, with the focus where it was. */
  const kept = (parent, children) => {
    const old = [...parent.querySelectorAll("button, select")].indexOf(document.activeElement);
    parent.replaceChildren(...children);
    if (old >= 0) parent.querySelectorAll("button, select")[old]?.focus({ preventScroll: true });
  };
  const renderTabs = () => {
    const current = state.view ?? home();
    const tabs = VIEWS.map((name) => button(word(name), () => go({ view: name, case: undefined, at: undefined }), {
      role: "tab", id: `tab-${name}`, "aria-controls": "view", "aria-selected": String(name === current), tabindex: name === current ? 0 : -1 }));
    kept(byId("tabs"), tabs);
    byId("view").setAttribute("aria-labelledby", `tab-${current}`);
  };
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const view = VIEWS[(VIEWS.indexOf(state.view ?? home()) + step + VIEWS.length) % VIEWS.length];
    go({ view, case: undefined, at: undefined });
    byId(`tab-${view}`).focus();
  });

  // The matrix

  const countsOf = (found) => {
    const { values, codes } = columns.status;
    const counts = new Map();
    for (const i of found) counts.set(values[codes[i]], (counts.get(values[codes[i]]) ?? 0) + 1);
    return counts;
  };
  const worst = (counts) => WORST.find((status) => counts.get(status)) ?? "undefined";
  const inWords = (counts) => WORST.filter((status) => counts.get(status)).map((status) => `${named("status", status)} ${counts.get(status)}`).join(", ");
  /** The shares of the statuses as a bar that is no element of its own: there are thousands of cells. */
  const share = (counts, total) => {
    let done = 0;
    const parts = WORST.filter((status) => counts.get(status)).map((status) => {
      const from = done;
      done += (100 * counts.get(status)) / total;
      return `var(--bar-${status}) ${from}% ${done}%`;
    });
    return `linear-gradient(90deg, ${parts.join(", ")})`;
  };
  const matrix = () => {
    const family = columns.family, functions = columns.function;
    const cells = new Map(), alarms = new Map(), statuses = columns.status;
    for (const i of passing("family", "function")) {
      const key = family.codes[i] * functions.values.length + functions.codes[i];
      if (!cells.has(key)) cells.set(key, new Map());
      const status = statuses.values[statuses.codes[i]];
      cells.get(key).set(status, (cells.get(key).get(status) ?? 0) + 1);
      const expected = at("expected", i);
      if (expected === "unexpected" || expected === "stale") alarms.set(key, (alarms.get(key) ?? 0) + 1);
    }
    const byName = (values) => values.map((_, i) => i).sort((a, b) => (values[a] < values[b] ? -1 : 1));
    const present = new Set([...cells.keys()].map((key) => key % functions.values.length));
    const across = byName(functions.values).filter((i) => present.has(i));
    const asked = new Set([...cells.keys()].map((key) => Math.floor(key / functions.values.length)));
    const down = byName(family.values).filter((i) => asked.has(i));
    if (!down.length) return [nothing()];
    const toggled = (name, value) => ({ [name]: state[name] === value ? undefined : value });
    const head = make("tr", {}, make("th", { scope: "col" }, word("family")), across.slice(0, LINES.functions).map((f) => {
      const name = functions.values[f];
      return make("th", { scope: "col", class: "turned" }, button(make("span", {}, broken(name)), () => go(toggled("function", name)),
        { class: "plain", title: name, "aria-pressed": String(state.function === name) }));
    }));
    let group = "";
    const lineOf = (r) => {
      const name = family.values[r], made = [];
      const folder = name.includes("/") ? name.slice(0, name.indexOf("/")) : "";
      if (folder !== group) {
        group = folder;
        made.push(make("tr", { class: "folder" }, make("th", { scope: "colgroup", colspan: across.length + 1 }, folder)));
      }
      const line = [make("th", { scope: "row" }, button(name.slice(folder ? folder.length + 1 : 0).replaceAll("_", "_\u200b"), () => go(toggled("family", name)),
        { class: "plain", title: name, "aria-pressed": String(state.family === name) }))];
      for (const f of across.slice(0, LINES.functions)) {
        const counts = cells.get(r * functions.values.length + f);
        if (!counts) { line.push(make("td", {}, make("span", { class: "unseen" }, word("not_asked")))); continue; }
        const alarm = alarms.get(r * functions.values.length + f);
        const status = worst(counts), total = [...counts.values()].reduce((a, b) => a + b, 0);
        const label = word("cell", { function: functions.values[f], family: name, counts: inWords(counts) + (alarm ? `; ${word("unexpected")} ${alarm}` : "") });
        const on = state.family === name && state.function === functions.values[f];
        const cell = button([mark(status), String(counts.get(status)), total > counts.get(status) ? make("small", {}, `/${total}`) : null, alarm ? make("b", { class: "alarm" }, ` !${alarm}`) : null],
          () => go(on ? { family: undefined, function: undefined } : { family: name, function: functions.values[f], view: "table" }),
          { class: `cell ${status}`, "aria-label": label, title: label, "aria-pressed": String(on) });
        cell.style.backgroundImage = share(counts, total);
        line.push(make("td", {}, cell));
      }
      return [...made, make("tr", {}, line)];
    };
    const lines = down.slice(0, LINES.matrix), body = make("tbody");
    const region = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": word("matrix"), "aria-busy": "true" },
      make("table", { class: "matrix" }, make("colgroup", {}, make("col", { class: "families" }), make("col", { span: Math.max(1, Math.min(across.length, LINES.functions)) })), make("thead", {}, head), body));
    const lengthen = (most) => {
      body.append(...lines.splice(0, most).flatMap(lineOf));
      region.setAttribute("aria-busy", String(lines.length > 0));
      if (lines.length) setTimeout(() => region.isConnected && lengthen(PIECE));
    };
    // Where a reader has scrolled down, that far at once.
    lengthen(PIECE + Math.ceil((byId("view").querySelector(".scroll")?.scrollTop ?? 0) / 26));
    return [make("p", { class: "help" }, word("matrix_help")), legend(), region, more(down.length - LINES.matrix), more(across.length - LINES.functions)];
  };
  const broken = (name) => name.replace(/([.:=])/g, "$1\u200b").replace(/([a-z])([A-Z])/g, "$1\u200b$2").replaceAll("_", "_\u200b");
  const legend = () => make("p", { class: "legend" }, run.statuses.filter((status) => facets.status.number.has(status)).map(tagged));
  const nothing = () => make("p", { class: "nothing" }, word("nothing"));
  const more = (count) => (count > 0 ? make("p", { class: "help" }, word("more", { count: whole(count) })) : null);

  // Causes and known discrepancies

  const grouped = (name, found) => {
    const { codes, choices, of } = facets[name];
    const groups = choices.map((choice) => ({ choice, rows: [] }));
    for (const i of found) for (const choice of of[codes[i]]) groups[choice].rows.push(i);
    return groups.filter((group) => (group.choice || name === "finding") && group.rows.length).sort((a, b) => b.rows.length - a.rows.length || (a.choice < b.choice ? -1 : 1));
  };
  const distinct = (name, found) => [...new Set(found.map((i) => at(name, i)))].sort();
  const titleOf = {
    convention: (group) => make("code", {}, broken(group.choice)),
    finding: (group) => [make("code", {}, broken(group.choice || word("none"))), make("small", {}, ` ${word("for_example")} `, linked(at("explanation", group.rows[0])))],
  };
  const groupTable = (name, found, filters) => {
    const groups = grouped(name, found);
    if (!groups.length) return [nothing()];
    const head = [name === "known" ? "reason" : "cause", "rows", "frameworks", "functions", "statuses", "show"].map((key) => make("th", { scope: "col" }, word(key)));
    const lines = groups.slice(0, LINES.groups).map((group) => {
      const functions = distinct("function", group.rows), frameworks = distinct("framework", group.rows), counts = countsOf(group.rows);
      const cell = (key, ...children) => make("td", { "data-name": word(key) }, ...children);
      const target = fragment({ ...Object.fromEntries([...FACETS, "q", "case", "at"].map((key) => [key, undefined])), ...filters, [name]: group.choice, view: "table" });
      return make("tr", {},
        make("th", { scope: "row" }, titleOf[name]?.(group) ?? linked(group.choice)),
        cell("rows", whole(group.rows.length)),
        cell("frameworks", make("span", {}, `${frameworks.length}: ${frameworks.join(", ")}`)),
        cell("functions", make("span", { class: "functions" }, functions.slice(0, 6).join(", ") + (functions.length > 6 ? ` … ${functions.length}` : ""))),
        cell("statuses", make("span", { class: "tags" }, WORST.filter((status) => counts.get(status)).map((status) => make("span", { class: "tag" }, mark(status), `${named("status", status)} ${counts.get(status)}`)))),
        make("td", {}, make("a", { href: target, "aria-label": word("show_rows", { count: group.rows.length, name: group.choice }) }, word("show"))));
    });
    return [make("table", { class: `groups by-${name}` }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, lines)), more(groups.length - LINES.groups)];
  };
  const causes = () => {
    const found = [...passing()].filter((i) => at("status", i) !== "agrees");
    return [make("p", { class: "help" }, word("causes_help")),
      make("h2", {}, word("by_convention")), ...groupTable("convention", found, {}),
      make("h2", {}, word("by_conversion")), ...groupTable("conversion", found, {}),
      make("h2", {}, word("by_known")), ...groupTable("known", found, {}),
      make("h2", {}, word("by_finding")), ...groupTable("finding", found.filter((i) => !at("convention", i) && !at("conversion", i) && !at("known", i)), {})];
  };
  const knownView = () => [make("p", { class: "help" }, word("known_help")), ...groupTable("known", [...passing()], {})];

  // Errors in units of the budget

  const SCALE = { from: -4, to: 2, width: 600, left: 10 };
  const along = (ratio) => {
    const exponent = Math.min(SCALE.to, Math.max(SCALE.from, ratio > 0 ? Math.log10(ratio) : SCALE.from));
    return SCALE.left + ((exponent - SCALE.from) / (SCALE.to - SCALE.from)) * (SCALE.width - 2 * SCALE.left);
  };
  const quantile = (values, share) => values[Math.min(values.length - 1, Math.floor(share * values.length))];
  const strip = (values) => {
    const svg = draw("svg", { viewBox: `0 0 ${SCALE.width} 28`, preserveAspectRatio: "none", "aria-hidden": "true", class: "strip" });
    svg.append(draw("rect", { x: along(1), y: 0, width: SCALE.width - along(1), height: 28, class: "over" }));
    const many = Math.min(values.length, 240);
    let ticks = "";
    for (let i = 0; i < many; i++) ticks += `M${along(values[Math.floor((i * values.length) / many)]).toFixed(1)} 18v8`;
    svg.append(draw("path", { d: ticks, class: "ticks" }));
    const [low, first, middle, third, high] = [0.05, 0.25, 0.5, 0.75, 0.95].map((share) => along(quantile(values, share)));
    svg.append(draw("path", { d: `M${low} 9H${high}`, class: "whisker" }));
    svg.append(draw("rect", { x: first, y: 4, width: Math.max(1.5, third - first), height: 10, class: "box" }));
    svg.append(draw("path", { d: `M${middle} 2v14`, class: "median" }));
    svg.append(draw("path", { d: `M${along(values.at(-1))} 4v10`, class: values.at(-1) > 1 ? "largest beyond" : "largest" }));
    svg.append(draw("path", { d: `M${along(1)} 0v28`, class: "limit" }));
    return svg;
  };
  const axis = () => {
    const svg = draw("svg", { viewBox: `0 0 ${SCALE.width} 20`, class: "axis", "aria-hidden": "true" });
    for (let exponent = SCALE.from; exponent <= SCALE.to; exponent++) {
      const text = draw("text", { x: along(10 ** exponent), y: 14, "text-anchor": exponent === SCALE.from ? "start" : exponent === SCALE.to ? "end" : "middle" });
      text.textContent = exponent === SCALE.from ? "≤1e-4" : exponent === SCALE.to ? "≥100" : short(10 ** exponent);
      svg.append(text);
    }
    return svg;
  };
  const errors = () => {
    const groups = new Map(), { values, codes } = columns.ratio;
    const functions = columns.function, dtypes = columns.dtype;
    for (const i of passing()) {
      const ratio = values[codes[i]];
      if (Number.isNaN(ratio)) continue;
      const key = functions.codes[i] * dtypes.values.length + dtypes.codes[i];
      if (!groups.has(key)) groups.set(key, { function: at("function", i), dtype: at("dtype", i), finite: [], infinite: 0 });
      if (Number.isFinite(ratio)) groups.get(key).finite.push(ratio); else groups.get(key).infinite++;
    }
    if (!groups.size) return [nothing()];
    const order = [...groups.values()].sort((a, b) => (a.function < b.function ? -1 : a.function > b.function ? 1 : a.dtype < b.dtype ? -1 : 1));
    const lines = [];
    let before = "";
    for (const { function: name, dtype, finite, infinite } of order.slice(0, LINES.groups)) {
      const ratios = Float64Array.from(finite).sort();
      if (name !== before) lines.push(make("h2", {}, name));
      before = name;
      const count = ratios.length + infinite;
      const told = ratios.length ? { median: short(quantile(ratios, 0.5)), high: short(quantile(ratios, 0.95)), max: short(ratios.at(-1)) } : {};
      const label = word("errors_row", { function: name, dtype, count, ...told });
      lines.push(make("div", { class: "line" },
        button(make("span", {}, dtype, make("small", {}, ` ${whole(count)}`)), () => go({ function: name, dtype, view: "table", sort: "-ratio" }), { class: "plain", "aria-label": label, title: label }),
        ratios.length ? strip(ratios) : make("span", {}),
        make("span", { class: "numbers" }, ratios.length ? make("span", {}, `${word("median")} ${told.median}`) : null,
          ratios.length ? make("span", { class: ratios.at(-1) > 1 ? "beyond" : "" }, `${word("largest")} ${told.max}`) : null,
          infinite ? make("span", { class: "beyond" }, word("infinite", { count: infinite })) : null)));
    }
    return [make("p", { class: "help" }, word("errors_help")), make("div", { class: "errors" }, make("div", { class: "line top" }, make("span", {}), axis(), make("span", {})), lines), more(order.length - LINES.groups), ...bySize()];
  };

  // Plots: points on a logarithmic plane, each place once

  const PLANE = { width: 620, height: 260, left: 56, right: 12, top: 10, bottom: 34 };
  /** points: [x, y], x > 0; a y of 0 lies on the lower edge.  The figure says in words what it shows, and has its numbers as a table. */
  const plane = (points, name, lines = false) => {
    const span = Math.ceil(points.reduce((most, [x]) => Math.max(most, Math.log10(x)), 1));
    const [left, right] = [PLANE.left, PLANE.width - PLANE.right], [over, under] = [PLANE.top, PLANE.height - PLANE.bottom];
    const across = (x) => left + (Math.log10(x) / span) * (right - left);
    const up = (y) => { const e = Math.min(SCALE.to, Math.max(SCALE.from, y > 0 ? Math.log10(y) : SCALE.from)); return under - ((e - SCALE.from) / (SCALE.to - SCALE.from)) * (under - over); };
    const svg = draw("svg", { viewBox: `0 0 ${PLANE.width} ${PLANE.height}`, class: "plane", role: "img" });
    const label = (text, x, y, anchor) => { const one = draw("text", { x, y, "text-anchor": anchor }); one.textContent = text; svg.append(one); };
    const whole10 = ["1", "10", "100", "10³", "10⁴", "10⁵", "10⁶", "10⁷", "10⁸", "10⁹"];
    for (let e = 0; e <= span; e++) { svg.append(draw("path", { d: `M${across(10 ** e)} ${over}V${under}`, class: "rule" })); label(whole10[e] ?? `1e${e}`, across(10 ** e), under + 15, "middle"); }
    for (let e = SCALE.from; e <= SCALE.to; e++) { svg.append(draw("path", { d: `M${left} ${up(10 ** e)}H${right}`, class: e === 0 ? "limit" : "rule" })); label(e === SCALE.from ? "≤1e-4" : e === SCALE.to ? "≥100" : short(10 ** e), left - 5, up(10 ** e) + 4, "end"); }
    label(name, (left + right) / 2, PLANE.height - 4, "middle");
    const places = new Set(points.map(([x, y]) => `${Math.round(across(x))} ${Math.round(up(y))}`));
    if (lines) svg.append(draw("path", { d: points.map(([x, y], i) => `${i ? "L" : "M"}${across(x).toFixed(1)} ${up(y).toFixed(1)}`).join(""), class: "curve" }));
    svg.append(draw("path", { d: [...places].map((place) => `M${place}h0`).join(""), class: "points" }));
    const decades = new Map();
    for (const [x, y] of points) {
      const decade = Math.floor(Math.log10(x) + 1e-9);
      const [count, most] = decades.get(decade) ?? [0, 0];
      decades.set(decade, [count + 1, Math.max(most, y)]);
    }
    const said = [...decades].sort(([a], [b]) => a - b).map(([decade, [count, most]]) => [`${whole(10 ** decade)}–${whole(10 ** (decade + 1) - 1)}`, whole(count), short(most)]);
    svg.setAttribute("aria-label", `${name}: ${said.map(([where, count, most]) => word("decade", { where, count, most })).join("; ")}`);
    return make("figure", {}, svg, make("details", {}, make("summary", {}, word("numbers")), make("table", { class: "groups" },
      make("thead", {}, make("tr", {}, [name, word("rows"), word("largest")].map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, said.map(([where, ...rest]) => make("tr", {}, make("th", { scope: "row" }, where), rest.map((text) => make("td", {}, text))))))));
  };
  const bySize = () => {
    const { values, codes } = columns.ratio, known = columns.case.values.map((id) => (Object.hasOwn(run.sizes, id) ? run.sizes[id] : null));
    const found = [[], []];
    for (const i of shown) {
      const size = known[columns.case.codes[i]], ratio = values[codes[i]];
      if (!size || !Number.isFinite(ratio)) continue;
      size.forEach((x, which) => { if (x >= 1) found[which].push([x, ratio]); });
    }
    if (!found[0].length) return [];
    return [make("h2", {}, word("by_size")), make("p", { class: "help" }, word("by_size_help")),
      make("div", { class: "planes" }, plane(found[0], word("samples")), plane(found[1], word("classes")))];
  };

  // What is known beside the rows: sweeps, another report, releases

  const FILTERED = ["framework", "function", "dtype", "reduction", "quantity"];
  const chosen = (lines) => lines.filter((line) =>
    FILTERED.every((name) => {
      if (state[name] === undefined) return true;
      const value = name === "framework" && !line.framework && line.function ? line.function.split(".")[0] : line[name];
      return value === undefined || value === state[name];
    }) && (state.q ?? "").toLowerCase().split(/\s+/).filter(Boolean).every((term) =>
      Object.values(line).some((value) => typeof value === "string" && value.toLowerCase().includes(term))));
  const number = (value) => (typeof value === "string" ? Number(value.replace("inf", "Infinity")) : value ?? NaN);
  const leftOut = (known, name) => (known.left_out[name] > 0 ? make("p", { class: "help" }, word("left_out", { count: whole(known.left_out[name]) })) : null);
  const simpleTable = (kind, heads, lines) => make("table", { class: `groups ${kind}` }, make("thead", {}, make("tr", {}, heads.map((key) => make("th", { scope: "col" }, word(key))))),
    make("tbody", {}, lines.map(([first, ...rest]) => make("tr", {}, make("th", { scope: "row" }, first), rest.map((cell, i) => make("td", { "data-name": word(heads[i + 1]) }, cell))))));
  const caseLink = (id, at) => make("a", { href: fragment({ case: id, at }) }, id.replaceAll("/", "/\u200b").replaceAll("_", "_\u200b"));

  const SEVERE = { regression: "disagrees", change: "known", improvement: "agrees", note: "undefined", convention: "diverges", support: "undefined", exception: "undefined", warning: "undefined" };
  const severe = (name) => make("span", { class: `badge ${SEVERE[name] ?? "undefined"}` }, Object.hasOwn(STRINGS[language], name) ? word(name) : name);
  const groupLines = (lines, keyOf) => {
    const groups = new Map();
    for (const line of lines) { const key = keyOf(line); if (!groups.has(key)) groups.set(key, []); groups.get(key).push(line); }
    return groups;
  };
  const changes = (known) => {
    const found = chosen(known.changes);
    const side = (line, of) => make("div", { class: "side" }, mark(line[`${of}_status`]), make("code", {}, line[`${of}_got`] || line[`${of}_exception`] || word("none")),
      line[`${of}_convention`] ? make("small", {}, line[`${of}_convention`]) : null);
    const lines = found.slice(0, LINES.groups).map((line) => [
      make("div", {}, severe(line.severity), " ", caseLink(line.case, [line.dtype, line.reduction, line.quantity].join(","))),
      `${line.function}, ${word("same_problem", { dtype: line.dtype, reduction: line.reduction, quantity: named("quantity", line.quantity) })}`,
      side(line, "old"), side(line, "new"), short(number(line.budgets)), line.what]);
    return [make("p", { class: "help" }, word("changes_help")), ...known.against.map((text) => make("p", {}, text)),
      lines.length ? simpleTable("changed", ["case", "function", "before", "after", "moved_by", "why"], lines) : nothing(), more(found.length - LINES.groups), leftOut(known, "changes")];
  };

  /** A histogram of errors in ulps; the height is logarithmic, so that a single input shows. */
  const histogram = (counts) => {
    const total = counts.reduce((a, b) => a + b, 0), most = Math.log1p(Math.max(...counts)) || 1;
    const last = counts.reduce((end, count, i) => (count ? i : end), 0), bins = Math.max(8, last + 1);
    const svg = draw("svg", { viewBox: `0 0 ${bins * 10} 40`, class: "histogram", role: "img", preserveAspectRatio: "none" });
    const upTo = (i) => (i === counts.length - 1 ? "∞" : i === counts.length - 2 ? word("more_ulps") : short(2 ** (i - 1)));
    const told = [];
    counts.slice(0, bins).forEach((count, i) => {
      if (!count) return;
      const height = 3 + (37 * Math.log1p(count)) / most;
      svg.append(draw("rect", { x: i * 10 + 1, y: 40 - height, width: 8, height, class: i > 3 ? "bin beyond" : "bin" }));
      told.push(word("bin", { to: upTo(i), share: short((100 * count) / total) }));
    });
    svg.setAttribute("aria-label", told.join(", "));
    const title = draw("title");
    title.textContent = told.join(", ");
    svg.prepend(title);
    return svg;
  };
  const added = (lines) => lines.reduce((sum, line) => line.histogram.map((count, i) => count + (sum[i] ?? 0)), []);
  const extreme = (line, which) => (line[which] == null ? "" : make("div", { class: "extreme" }, make("b", {}, short(number(line[which]))), " ",
    word("at_input"), " ", make("code", {}, `${line[`${which}_at`]} = ${line[`${which}_at_hex`]}`), `, ${word("returned")} `, make("code", {}, String(line[`${which}_got`])), `, ${word("exact_is")} `, make("code", {}, String(line[`${which}_want`]))));
  const largest = (lines, name) => lines.reduce((most, line) => { const own = number(line[name]); return own > most ? own : most; }, 0);
  const sweep = (known) => {
    const found = chosen(known.sweep), means = chosen(known.means);
    const summary = (key, lines, extra) => {
      const counts = countsBy(lines);
      return make("summary", {}, make("span", { class: "tags" }, make("b", {}, key), ...WORST.filter((status) => counts.get(status)).map((status) => make("span", { class: "tag" }, mark(status), `${named("status", status)} ${counts.get(status)}`)), make("span", {}, extra)));
    };
    const countsBy = (lines) => { const counts = new Map(); for (const line of lines) counts.set(line.status, (counts.get(line.status) ?? 0) + 1); return counts; };
    const opening = (fill) => ({ toggle: (event) => { if (event.target.open && event.target.childElementCount === 1) event.target.append(...fill()); } });
    const sections = [...groupLines(found, (line) => [line.function, line.version, line.dtype, line.given, line.target].join(" "))].slice(0, LINES.groups).map(([key, lines]) => {
      const inputs = lines.reduce((sum, line) => sum + line.count, 0);
      const fill = () => [simpleTable("regions", ["region", "inputs", "status", "ulps", "worst_ulps", "worst_budgets"], lines.map((line) => [
        `${line.region} y=${line.label}`, whole(line.count), make("div", {}, tagged(line.status), line.expected === "ok" ? null : make("small", { class: `badge ${line.expected}` }, named("expected", line.expected)), line.convention ? make("div", {}, make("small", {}, line.convention)) : null, line.known ? make("div", {}, make("small", {}, linked(line.known))) : null, line.why ? make("div", {}, make("small", {}, line.why)) : null),
        histogram(line.histogram), extreme(line, "ulps"), make("div", {}, extreme(line, "ratio"), line.call ? button(word("copy"), () => copied(line.call), { class: "copy small", "aria-label": `${word("copy")}: ${word("call")} ${line.region} y=${line.label}` }) : null)]))];
      return make("details", { on: opening(fill) }, summary(key, lines, make("span", { class: "overall" }, histogram(added(lines)), ` ${word("swept", { inputs: whole(inputs), ulps: short(largest(lines, "ulps")), budgets: short(largest(lines, "ratio")) })}`)));
    });
    const curves = [...groupLines(means, (line) => [line.function, line.version, line.dtype, line.given, line.target].join(" "))].slice(0, LINES.groups).map(([key, lines]) => {
      const points = lines.filter((line) => Number.isFinite(number(line.ratio))).map((line) => [line.length, number(line.ratio)]);
      const fill = () => [points.length ? plane(points, word("length"), true) : nothing(),
        simpleTable("means", ["length", "status", "ulps", "ratio"], lines.map((line) => [whole(line.length), tagged(line.status), short(number(line.ulps)), short(number(line.ratio))]))];
      return make("details", { on: opening(fill) }, summary(key, lines, word("mean_swept", { budgets: short(largest(lines, "ratio")) })));
    });
    return [make("p", { class: "help" }, word("sweep_help")), ...(sections.length || curves.length ? sections : [nothing()]), leftOut(known, "sweep"),
      ...(curves.length ? [make("h2", {}, word("mean_view")), make("p", { class: "help" }, word("mean_help")), ...curves] : []), leftOut(known, "means")];
  };

  const ORDER = ["regression", "change", "improvement", "convention", "support", "exception", "warning", "note"];
  const releases = (known) => {
    const found = chosen(known.history);
    if (!found.length) return [nothing()];
    const age = (a, b) => a.localeCompare(b, "en", { numeric: true });
    const parts = [make("p", { class: "help" }, word("history_help")), make("p", { class: "legend" }, ORDER.filter((kind) => found.some((line) => line.kind === kind)).map(severe))];
    for (const [framework, lines] of groupLines(found, (line) => line.framework)) {
      const across = [...new Set(lines.map((line) => line.release))].sort(age), cells = groupLines(lines, (line) => `${line.function}\n${line.release}`);
      const body = [...new Set(lines.map((line) => line.function))].sort().map((name) => make("tr", {}, make("th", { scope: "row" }, broken(name)), across.map((release) => {
        const own = cells.get(`${name}\n${release}`);
        if (!own) return make("td", {});
        const kind = ORDER.find((one) => own.some((line) => line.kind === one)) ?? own[0].kind, count = own.reduce((sum, line) => sum + (Number(line.rows) || 0), 0);
        const label = `${name} ${release}: ${own.map((line) => `${line.kind}: ${line.what} (${line.rows})`).join("; ")}`;
        return make("td", {}, make("a", { class: `cell ${SEVERE[kind] ?? "undefined"}`, href: fragment({ q: `${name} ${release}`, view: "history" }), title: label, "aria-label": label }, `${Object.hasOwn(STRINGS[language], kind) ? word(kind) : kind} ${whole(count)}`));
      })));
      parts.push(make("h2", {}, framework),
        make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": framework }, make("table", { class: "matrix drift" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, word("function")), across.map((release) => make("th", { scope: "col" }, release)))), make("tbody", {}, body))),
        make("details", { on: { toggle: (event) => { if (event.target.open && event.target.childElementCount === 1) event.target.append(simpleTable("drifted", ["release", "function", "kind", "what", "rows", "shift", "case", "before", "after", "source"], lines.slice(0, LINES.groups).map((line) =>
          [line.release, line.function, severe(line.kind), line.what, line.rows, line.shift, columns.case.values.includes(line.case.split(" ")[0]) ? caseLink(line.case.split(" ")[0]) : line.case, make("code", {}, line.before), make("code", {}, line.answer), make("span", {}, linked(line.source))]))); } } },
          make("summary", {}, word("changes_count", { count: whole(lines.length) }))), more(lines.length - LINES.groups));
    }
    return [...parts, leftOut(known, "history")];
  };

  // The table: only the rows in sight are in the document

  const table = () => {
    const grid = make("div", { class: "grid", id: "grid", role: "grid", tabindex: 0, "aria-label": word("grid"), "aria-rowcount": shown.length + 1, "aria-colcount": COLUMNS.length });
    const [, down, by] = /^(-?)(\w+)$/.exec(state.sort ?? "") ?? [];
    const head = make("div", { role: "row", class: "row head", "aria-rowindex": 1 }, COLUMNS.map((name) => {
      const order = by === name ? (down ? "descending" : "ascending") : "none";
      const next = by !== name ? (NUMBERS.has(name) ? `-${name}` : name) : down === (NUMBERS.has(name) ? "-" : "") ? (down ? name : `-${name}`) : undefined;
      return make("div", { role: "columnheader", class: name, "aria-sort": order }, button(`${word(name)}${order === "none" ? "" : order === "ascending" ? " ▲" : " ▼"}`, () => go({ sort: next }, true), { class: "plain" }));
    }));
    const body = make("div", { role: "rowgroup", class: "body" });
    grid.append(make("div", { role: "rowgroup", class: "heads" }, head), body);
    const phone = matchMedia("(max-width: 700px)").matches;
    const height = phone ? 100 : 34;
    body.style.height = `${shown.length * height}px`;
    active = Math.min(active, Math.max(0, shown.length - 1));
    const place = () => {
      const first = Math.max(0, Math.floor(grid.scrollTop / height) - 8);
      const last = Math.min(shown.length, first + Math.ceil((grid.clientHeight || 600) / height) + 18);
      const lines = [];
      for (let k = first; k < last; k++) {
        const line = gridRow(shown[k], k);
        line.style.transform = `translateY(${k * height}px)`;
        lines.push(line);
      }
      body.replaceChildren(...lines);
      if (byId(`row-${active}`)) grid.setAttribute("aria-activedescendant", `row-${active}`);
      else grid.removeAttribute("aria-activedescendant");
    };
    let waiting = false;
    grid.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; place(); });
    });
    grid.addEventListener("keydown", (event) => {
      if (event.target !== grid || !shown.length) return;
      const page = Math.max(1, Math.floor(grid.clientHeight / height) - 2);
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -shown.length, End: shown.length }[event.key];
      if (event.key === "Enter") { event.preventDefault(); open(shown[active]); return; }
      if (step === undefined) return;
      event.preventDefault();
      active = Math.min(shown.length - 1, Math.max(0, active + step));
      const top = active * height, seen = grid.clientHeight - 2 * height;
      if (top < grid.scrollTop) grid.scrollTop = top;
      else if (top > grid.scrollTop + seen) grid.scrollTop = top - seen;
      place();
    });
    body.addEventListener("click", (event) => {
      const line = event.target.closest("[data-place]");
      if (!line) return;
      active = Number(line.dataset.place);
      open(shown[active]);
    });
    const sortBy = make("select", { id: "sort", on: { change: (event) => go({ sort: event.target.value || undefined }, true) } },
      make("option", { value: "" }, word("none")),
      COLUMNS.flatMap((name) => [make("option", { value: name }, `${word(name)}, ${word("ascending")}`), make("option", { value: `-${name}` }, `${word(name)}, ${word("descending")}`)]));
    sortBy.value = state.sort ?? "";
    return [make("label", { class: "sort" }, make("span", {}, word("sort")), sortBy), shown.length ? grid : nothing(), { placed: () => { grid.scrollTop = Math.max(0, active - 3) * height; place(); } }];
  };
  const gridRow = (i, k) => {
    const cell = (name, ...children) => make("div", { role: "gridcell", class: name, "data-name": name === "ratio" || name === "ulps" ? word(name) : null }, ...children);
    const status = at("status", i), expected = at("expected", i);
    const why = at("known", i) || (at("conversion", i) ? "" : at("convention", i)) || at("explanation", i) || at("exception", i);
    return make("div", { role: "row", class: k === active ? "row current" : "row", id: `row-${k}`, "data-place": k, "aria-rowindex": k + 2, "aria-selected": String(k === active) },
      cell("status", mark(status), named("status", status), expected === "ok" ? null : make("small", { class: `badge ${expected}` }, named("expected", expected))),
      cell("function", at("function", i)), cell("case", at("case", i)), cell("dtype", at("dtype", i)), cell("reduction", at("reduction", i)),
      cell("quantity", named("quantity", at("quantity", i))), cell("ratio", short(at("ratio", i))), cell("ulps", short(at("ulps", i))), cell("why", why));
  };
  const problemOf = (i) => [at("dtype", i), at("reduction", i), at("quantity", i)].join(",");
  const open = (i) => go({ case: at("case", i), at: problemOf(i) });

  // One case

  const copied = async (text) => {
    let done = false;
    try { await navigator.clipboard.writeText(text); done = true; } catch {
      const area = make("textarea", { class: "unseen", readonly: true });
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
    }
    said("");
    said(word(done ? "copied" : "not_copied"));
    return done;
  };
  const copyable = (text, name) => {
    const does = async () => { copy.textContent = (await copied(text)) ? word("copied") : word("copy"); };
    const copy = button(word("copy"), does, { class: "copy", "aria-label": `${word("copy")}: ${name}` });
    return make("div", { class: "code" }, make("pre", { tabindex: 0, "aria-label": name, role: "region" }, make("code", {}, text)), copy);
  };
  const numbersIn = (text) => {
    try {
      const value = JSON.parse(text.replace(/-?\binf(inity)?\b/gi, (found) => (found.startsWith("-") ? "-1e999" : "1e999")).replace(/\bnan\b/gi, "null"));
      return [value].flat(Infinity).map((one) => (one === null ? NaN : one));
    } catch { return null; }
  };
  /** The largest difference of two texts of numbers, with its sign; NaN where they cannot be compared. */
  const apart = (a, b) => {
    const [left, right] = [numbersIn(a), numbersIn(b)];
    if (!left || !right || left.length !== right.length) return NaN;
    return left.reduce((most, one, i) => {
      const difference = one === right[i] ? 0 : one - right[i];
      return Math.abs(difference) > Math.abs(most) || Number.isNaN(most) ? difference : most;
    }, NaN);
  };
  const WIDE = new Set(["returned", "want_by_convention", "budgets", "explanation", "known", "warnings", "exception"]);
  const fact = (name, ...children) => (children.flat().some((child) => child !== "" && child != null) ? make("div", { class: WIDE.has(name) ? "wide" : null }, make("dt", {}, word(name)), make("dd", {}, ...children)) : null);
  const answer = (i, texts) => {
    const one = (name) => texts[name].values[texts[name].codes[i]];
    const status = at("status", i), expected = at("expected", i), byConvention = one("want_by_convention");
    const returned = one("got");
    const reference = byConvention || one("want");
    const semantic = byConvention ? apart(byConvention, one("want")) : returned && one("want") ? 0 : NaN;
    const name = `${at("function", i)} ${at("version", i)}`;
    return make("article", { class: `answer ${status}` },
      make("h4", {}, mark(status), make("span", {}, name), make("small", {}, named("status", status), expected === "ok" ? "" : `, ${named("expected", expected)}`)),
      make("dl", {},
        fact("returned", returned ? make("code", {}, returned) : ""), fact("exception", at("exception", i)),
        fact("want_by_convention", byConvention ? make("code", {}, byConvention) : ""),
        fact("ratio", short(at("ratio", i))), fact("error", short(at("error", i))), fact("budget", short(at("budget", i))), fact("ulps", short(at("ulps", i))), fact("where", at("where", i)), fact("shape", at("shape", i)),
        fact("difference", returned && reference && !Number.isNaN(semantic) ? `${word(at("conversion", i) ? "semantic_converted" : "semantic")} ${short(semantic) || "nan"}; ${word("numeric")} ${short(apart(returned, reference)) || "nan"}` : ""),
        fact("convention", at("convention", i) ? make("code", {}, at("convention", i)) : ""), fact("explanation", linked(at("explanation", i))), fact("known", linked(at("known", i))),
        fact("bridge", at("bridge", i)), fact("conversion", at("conversion", i)), fact("warnings", at("warnings", i)), fact("result_dtype", at("result_dtype", i)), fact("reason_code", at("reason_code", i)), fact("candidate", at("candidate", i) ? make("code", {}, at("candidate", i)) : ""), fact("environment", at("environment", i)), fact("backend", at("backend", i)), fact("mode", at("mode", i)), fact("device", at("device", i)),
        fact("budgets", one("budgets") ? make("code", {}, one("budgets")) : "")),
      one("call") ? make("div", {}, make("h5", {}, word("call")), copyable(one("call"), `${word("call")} ${name}`)) : null);
  };
  /** An explanation as `conformance explain` prints it. */
  const explanation = (key, blocks) => {
    const parts = [];
    for (const [kind, text, depth] of blocks) {
      if (kind === "heading") { if (depth > 1) parts.push(make("h4", {}, text)); }
      else if (kind === "code") parts.push(make("pre", {}, make("code", {}, text)));
      else parts.push(make("p", { class: kind === "formula" ? `formula depth-${Math.min(depth, 4)}` : null }, linked(text)));
    }
    const [dtype, reduction, quantity] = key.split(",").slice(-3);
    return make("details", { class: "explanation", open: true },
      make("summary", {}, make("b", {}, word("explained", { problem: word("same_problem", { dtype, reduction, quantity: named("quantity", quantity) }) }))), make("div", { lang: "en" }, parts));
  };
  const renderCase = async () => {
    const section = byId("opened"), id = state.case, wanted = state.at;
    const number = columns.case.values.indexOf(id);
    const back = button(`← ${word("back")}`, () => go({ case: undefined, at: undefined }), { class: "back" });
    if (number < 0) { section.replaceChildren(back, make("h2", {}, id), make("p", { class: "nothing" }, word("no_case"))); document.body.dataset.ready = "case"; return; }
    section.replaceChildren(back, make("h2", {}, id), make("p", {}, word("loading")));
    section.focus({ preventScroll: true });
    const [texts, explained] = [await detail(), (await beside()).explanations];
    if (state.case !== id || state.at !== wanted) return;
    const own = [];
    for (let i = 0; i < rows; i++) if (columns.case.codes[i] === number) own.push(i);
    const problems = new Map();
    for (const i of own) {
      if (!problems.has(problemOf(i))) problems.set(problemOf(i), []);
      problems.get(problemOf(i)).push(i);
    }
    const chosen = problems.has(wanted) ? wanted : problems.keys().next().value;
    const ordered = [...problems].sort(([a], [b]) => (b === chosen) - (a === chosen));
    const parts = ordered.map(([key, members]) => {
      const [dtype, reduction, quantity] = key.split(",");
      const counts = countsOf(members);
      const fill = (element) => {
        if (element.childElementCount > 1) return;
        const wants = [...new Set(members.map((i) => texts.want.values[texts.want.codes[i]]))].filter(Boolean);
        element.append(make("h3", {}, word("exact")), ...wants.map((want) => copyable(want, word("exact"))));
        if (!wants.length) element.append(make("p", {}, word("none")));
        const order = members.slice().sort((a, b) => WORST.indexOf(at("status", a)) - WORST.indexOf(at("status", b)) || a - b);
        element.append(make("div", { class: "answers" }, order.map((i) => answer(i, texts))));
      };
      const element = make("details", { open: key === chosen, on: { toggle: (event) => event.target.open && fill(event.target) } },
        make("summary", {}, make("span", { class: "tags" }, make("b", {}, word("same_problem", { dtype, reduction, quantity: named("quantity", quantity) })),
          WORST.filter((status) => counts.get(status)).map((status) => make("span", { class: "tag" }, mark(status), `${named("status", status)} ${counts.get(status)}`)))));
      if (key === chosen) fill(element);
      return element;
    });
    const explanations = Object.keys(explained).filter((key) => key.startsWith(`${id},`) && key.split(",").length === id.split(",").length + 3);
    const published = run.published.filter((number) => number.case === id).map((number) =>
      make("li", {}, make("b", {}, number.value), ": ", word(number.holds === "True" ? "holds" : "fails", { exact: number.exact }), ". ", linked(number.source)));
    const [command, explain] = ["show", "explain"].map((verb) => `conformance ${verb} ${/^[\w./-]+$/.test(id) ? id : `'${id.replaceAll("'", "'\\''")}'`}`);
    section.replaceChildren(back, make("h2", {}, id),
      make("h3", {}, word("problem")), make("p", { class: "help" }, `${word("digest")} ${distinct("digest", own).join(", ")}`),
      Object.hasOwn(texts.problems, id) ? copyable(texts.problems[id], word("problem")) : "",
      make("p", {}, word("print_problem")), copyable(command, command),
      explanations.length ? "" : make("p", {}, word("print_explanation")), explanations.length ? "" : copyable(explain, explain),
      ...explanations.map((key) => explanation(key, explained[key])),
      published.length ? make("div", {}, make("h3", {}, word("published")), make("ul", {}, published)) : "", ...parts,
      make("p", { class: "help" }, word("shortened")));
    scrollTo(0, 0);
    document.body.dataset.ready = "case";
  };

  // All of it

  /** A view of what is decoded only when it is looked at. */
  const later = (view) => () => {
    if (known) return view(known);
    beside().then(render).catch(failed);
    return [make("p", {}, word("loading"))];
  };
  const views = { matrix, causes, errors, known_view: knownView, table, changes: later(changes), sweep: later(sweep), history: later(releases) };
  const render = () => {
    filter();
    sayWords();
    renderTiles();
    renderFacets();
    renderTabs();
    const opened = state.case !== undefined;
    byId("view").hidden = opened;
    for (const id of ["filters", "tabs", "tiles"]) byId(id).hidden = opened;
    byId("opened").hidden = !opened;
    const closed = wasOpened && !opened;
    wasOpened = opened;
    if (opened) { renderCase().catch(failed); return; }
    byId("opened").replaceChildren();
    const parts = views[state.view ?? home()]();
    const after = parts.find((part) => part?.placed);
    const scrolled = byId("view").querySelector(".scroll, .grid");
    const [top, left] = [scrolled?.scrollTop ?? 0, scrolled?.scrollLeft ?? 0];
    const focused = byId("view").contains(document.activeElement);
    byId("view").replaceChildren(...parts.filter((part) => part && !part.placed));
    if (focused && document.activeElement === document.body) byId("view").focus({ preventScroll: true });
    byId("view").querySelector(".scroll")?.scrollTo(left, top);
    after?.placed();
    if (closed) (byId("grid") ?? byId("view")).focus({ preventScroll: true });
    if (known || !BESIDE.includes(state.view)) document.body.dataset.ready = state.view ?? home();
  };
  const failed = (error) => {
    byId("failure").hidden = false;
    byId("failure").textContent = word("cannot", { error: error.message });
  };
  const start = async () => {
    read();
    prepare(await decoded("index"));
    read();
    byId("query").addEventListener("input", (event) => go({ q: event.target.value || undefined, view: state.view ?? "table" }, true));
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("clear").addEventListener("click", () => { byId("query").value = ""; only({}, state.view); byId("query").focus(); });
    byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); });
    for (const element of document.querySelectorAll("[data-language]")) element.addEventListener("click", () => go({ lang: element.dataset.language }, true));
    addEventListener("hashchange", () => { read(); render(); });
    addEventListener("popstate", () => { read(); render(); });
    addEventListener("keydown", (event) => { if (event.key === "Escape" && state.case !== undefined) go({ case: undefined, at: undefined }); });
    byId("narrow").open = !matchMedia("(max-width: 700px)").matches || SELECTS.some((name) => state[name] !== undefined);
    matchMedia("(max-width: 700px)").addEventListener("change", render);
    render();
  };
  start().catch(failed);
})();
