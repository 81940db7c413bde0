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
  const SEARCH_BIT = 1 << FACETS.length;
  const SEARCHED_COLUMNS = ["case", "function", "status", "convention", "explanation", "known", "exception", "bridge", "version", "dtype"];
  const NUMBERS = new Set(["error", "budget", "ratio", "ulps"]);
  const VIEWS = ["overview", "matrix", "causes", "errors", "known_view", "table"];
  const SUPPLEMENT_VIEWS = ["changes", "sweep", "history"];
  const COLUMNS = ["status", "function", "case", "dtype", "reduction", "quantity", "returned", "want", "ratio", "ulps", "why"];
  /** Columns by which rows cannot be sorted: they are decoded later, and hold arrays. */
  const UNSORTED = new Set(["returned", "want"]);
  /** What becomes of rows, each counted once, in the order of a bar, which leaves out what is unsupported. */
  const OUTCOMES = ["agrees", "diverges", "known_value", "unexpected", "undefined", "unsupported"];
  /** Number of rows of the matrix that are rendered at a time, so that a filter responds before all are rendered. */
  const ROWS_PER_STEP = 24;
  const defaultView = () => (VIEWS.includes("changes") ? "changes" : "overview");
  const MAX_LINES = { matrix: 400, functions: 200, groups: 300, overview: 8 };

  let active = 0, wasOpened = false;
  let run, rows, columns, facets, fails, shownRows, language, detail, detailPromise;
  let state = {};

  // Texts

  const translate = (key, values = {}) =>
    (STRINGS[language][key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
  const translateValue = (facet, value) => {
    if (value === "") return translate("none");
    if (facet === "expected" && value === "known") return translate("known_value");
    const isTranslated = facet === "status" || facet === "expected" || facet === "quantity";
    return isTranslated && Object.hasOwn(STRINGS[language], value) ? translate(value) : value;
  };
  const formatCount = (count) => count.toLocaleString(language === "zh" ? "zh-CN" : "en-US");
  const formatNumber = (value) => {
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
      else if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
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
  const button = (text, handler, options = {}) => make("button", { type: "button", on: { click: handler }, ...options }, text);
  const statusMark = (status) => make("span", { class: `mark ${status}`, "aria-hidden": "true" }, GLYPHS[status] ?? "?");
  const statusTag = (status) => make("span", { class: "tag" }, statusMark(status), translateValue("status", status));
  /** A text that may be broken between words of its names and addresses; copies of it have no other characters. */
  const withBreaks = (text) => text.split(/(?<=[/_.:])(?=[\p{L}_])|(?<==)/u).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));
  /** A text whose numbers stay whole: browsers break a line after the hyphen of 1e-07. */
  const unbroken = (text) => text.split(/(\d[\d.]*e-\d+)/).map((part, index) => (index % 2 ? make("span", { class: "number" }, part) : part));
  const withLinks = (text) => text.split(/(https?:\/\/[^\s()<>"'`]+)/).flatMap((part, index) => {
    if (index % 2 === 0) return unbroken(part);
    let url;
    try { url = new URL(part); } catch { return part; }
    if (url.protocol !== "https:" && url.protocol !== "http:") return part;
    return make("a", { href: url.href, rel: "noopener noreferrer", target: "_blank" }, withBreaks(part));
  });
  const announce = (text) => { byId("announcement").textContent = text; };

  // Data

  const decoded = async (id) => {
    const element = byId(id);
    let value = JSON.parse(element.textContent);
    if (typeof value.gzip === "string") {
      if (typeof DecompressionStream === "undefined") throw new Error(translate("old_browser"));
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
  const valueAt = (name, row) => columns[name].values[columns[name].codes[row]];
  const loadDetail = () => (detailPromise ??= decoded("detail").then((content) => (detail = {
    problems: content.problems,
    ...Object.fromEntries(Object.entries(content.columns).map(([name, one]) => [name, column(one, false)])),
  })));
  const detailAt = (name, row) => detail[name].values[detail[name].codes[row]];

  let supplement, supplementPromise;
  const loadSupplement = () => (supplementPromise ??= decoded("supplement").then((content) => (supplement = content)));

  /** The choices of a filter, and for each value of a column the indices of its choices. */
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
    const id = valueAt("case", i), quantity = valueAt("quantity", i);
    return (id.split("/").slice(0, -1).join("/") || id) + (quantity === "loss" ? "" : ` (${quantity})`);
  };
  /** Key of a finding, independent of explanations. */
  const findingOf = (i) => [valueAt("reason_code", i), valueAt("candidate", i)].filter(Boolean).join(": ");
  const prepare = (index) => {
    run = index;
    rows = index.rows;
    VIEWS.push(...SUPPLEMENT_VIEWS.filter((name) => index.views.includes(name)));
    columns = {};
    for (const [name, packed] of Object.entries(index.columns)) columns[name] = column(packed, NUMBERS.has(name));
    columns.family = derived(familyOf);
    columns.finding = derived(findingOf);
    facets = Object.fromEntries(FACETS.map((name) => [name, facet(name)]));
    fails = new Int32Array(rows);
  };

  // Filters

  /** Sets in `fails` which filters each row fails, a bit for each, and in `shownRows` the rows that fail none. */
  const filter = () => {
    fails.fill(0);
    FACETS.forEach((name, bit) => {
      if (state[name] === undefined) return;
      const { codes, number, of } = facets[name];
      const requested = number.get(state[name]) ?? -1;
      const passes = Uint8Array.from(of, (choices) => (choices.includes(requested) ? 1 : 0));
      for (let i = 0; i < rows; i++) if (!passes[codes[i]]) fails[i] |= 1 << bit;
    });
    for (const term of (state.q ?? "").toLowerCase().split(/\s+/).filter(Boolean)) {
      const hits = SEARCHED_COLUMNS.map((name) => columns[name]).map((own) =>
        [own.codes, Uint8Array.from((own.lower ??= own.values.map((value) => value.toLowerCase())), (value) => (value.includes(term) ? 1 : 0))])
        .filter(([, flags]) => flags.includes(1));
      for (let i = 0; i < rows; i++) {
        let hit = false;
        for (const [codes, flags] of hits) if (flags[codes[i]]) { hit = true; break; }
        if (!hit) fails[i] |= SEARCH_BIT;
      }
    }
    shownRows = sorted(passingRows());
  };
  /** Indices of the rows that pass all filters except those named. */
  const passingRows = (...but) => {
    const mask = ~but.reduce((bits, name) => bits | (1 << FACETS.indexOf(name)), 0);
    const found = new Int32Array(rows);
    let count = 0;
    for (let i = 0; i < rows; i++) if (!(fails[i] & mask)) found[count++] = i;
    return found.subarray(0, count);
  };
  /** Number of rows for each choice of a filter, with the other filters unchanged. */
  const tally = (name) => {
    const { codes, choices, of } = facets[name];
    const perValue = new Int32Array(of.length), counts = new Int32Array(choices.length);
    const mask = ~(1 << FACETS.indexOf(name));
    for (let i = 0; i < rows; i++) if (!(fails[i] & mask)) perValue[codes[i]]++;
    of.forEach((own, value) => own.forEach((choice) => { counts[choice] += perValue[value]; }));
    return counts;
  };
  const sorted = (found) => {
    const [, descending, name] = /^(-?)(\w+)$/.exec(state.sort ?? "") ?? [];
    if (!COLUMNS.includes(name) || UNSORTED.has(name)) return found;
    const sign = descending ? -1 : 1;
    const key = name === "why" ? "explanation" : name;
    const { values, codes } = columns[key];
    const order = Array.from(values, (_, i) => i);
    // Rows without a value come last in either order.
    if (NUMBERS.has(key)) order.sort((a, b) => Number.isNaN(values[a]) - Number.isNaN(values[b]) || sign * (values[a] - values[b] || 0));
    else if (key === "status") order.sort((a, b) => sign * (WORST.indexOf(values[a]) - WORST.indexOf(values[b])));
    else order.sort((a, b) => (values[a] === "") - (values[b] === "") || sign * (values[a] < values[b] ? -1 : 1));
    // Counting sort, which is stable.
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
    const parameters = new URLSearchParams(location.hash.slice(1));
    state = {};
    for (const key of KEYS) if (parameters.has(key)) state[key] = parameters.get(key).slice(0, 4000);
    if (![...VIEWS, ...SUPPLEMENT_VIEWS].includes(state.view) || (run && !VIEWS.includes(state.view))) delete state.view;
    const preferred = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
    language = Object.hasOwn(STRINGS, state.lang ?? "") ? state.lang : preferred;
  };
  const hashFor = (changes) => {
    const next = new URLSearchParams();
    const merged = { ...state, ...changes };
    for (const key of KEYS) if (merged[key] != null && (merged[key] !== "" || FACETS.includes(key))) next.set(key, merged[key]);
    return `#${next}`;
  };
  const navigate = (changes, replace = false) => {
    if (Object.keys(changes).some((key) => !["case", "at", "lang"].includes(key))) active = 0;
    const target = hashFor(changes);
    if (target !== (location.hash || "#")) history[replace ? "replaceState" : "pushState"](null, "", target);
    read();
    render();
  };
  const showOnly = (filters, view) => navigate({ ...Object.fromEntries([...FACETS, "q", "case", "at"].map((key) => [key, undefined])), ...filters, view });

  // Header, filters and tabs

  const renderTexts = () => {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    document.title = translate("title");
    for (const element of document.querySelectorAll("[data-text]")) element.textContent = translate(element.dataset.text);
    for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", translate(element.dataset.label));
    for (const element of document.querySelectorAll("[data-placeholder]")) element.setAttribute("placeholder", translate(element.dataset.placeholder));
    for (const element of document.querySelectorAll("[data-language]")) element.setAttribute("aria-pressed", String(element.dataset.language === language));
    const versions = Object.entries(run.versions).map((pair) => pair.join(" ")).join(", ");
    const about = { functions: columns.function.values.length, cases: columns.case.values.length, rows: formatCount(rows), versions };
    const date = run.date ? [make("time", { datetime: run.date }, run.date), ": "] : [];
    byId("about").replaceChildren(...date, translate("about", about) + (run.missing.length ? ` ${translate("missing", { names: run.missing.join(", ") })}` : ""));
    byId("incomplete").hidden = run.complete;
    byId("incomplete").textContent = translate("incomplete", { rows: formatCount(rows), planned: formatCount(run.planned), why: run.why.join("; ") });
  };
  const tile = (name, value, count) => {
    const look = value === "unexpected" && !count ? "agrees" : value;
    return button(make("span", {}, statusMark(look), make("b", {}, formatCount(count)), translateValue(name, value)),
      () => navigate({ [name]: state[name] === value ? undefined : value }), { class: `tile ${look}`, "aria-pressed": String(state[name] === value) });
  };
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
    replaceKeepingFocus(byId("tiles"), tiles);
  };
  const renderFacets = () => {
    const labels = SELECTS.filter((name) => facets[name].choices.length > 1 || state[name] !== undefined).map((name) => {
      const counts = tally(name);
      const { choices } = facets[name];
      const order = choices.map((_, i) => i).sort((a, b) => (choices[a] < choices[b] ? -1 : 1));
      // A value starts with =, so that the empty text is another choice than none.
      const options = [make("option", { value: "" }, translate("all"))];
      for (const i of order) options.push(make("option", { value: `=${choices[i]}` }, `${translateValue(name, choices[i])} (${formatCount(counts[i])})`));
      if (state[name] !== undefined && !facets[name].number.has(state[name])) options.push(make("option", { value: `=${state[name]}` }, `${state[name]} (0)`));
      const select = make("select", { id: `by-${name}`, on: { change: (event) => navigate({ [name]: event.target.value ? event.target.value.slice(1) : undefined }) } }, options);
      select.value = state[name] === undefined ? "" : `=${state[name]}`;
      return make("label", { class: state[name] === undefined ? "" : "set" }, make("span", {}, translate(name)), select);
    });
    replaceKeepingFocus(byId("facets"), labels);
    if (document.activeElement !== byId("query")) byId("query").value = state.q ?? "";
    const chips = CHIPS.filter((name) => state[name] !== undefined).map((name) =>
      button(`${translate(name)}: ${state[name]} ✕`, () => navigate({ [name]: undefined }), { class: "chip", "aria-label": translate("remove", { name: `${translate(name)}: ${state[name]}` }) }));
    replaceKeepingFocus(byId("chips"), chips);
    byId("clear").hidden = !FACETS.some((name) => state[name] !== undefined) && !state.q;
    byId("count").textContent = translate("count", { shown: formatCount(shownRows.length), rows: formatCount(rows) });
  };
  /** Replace the children of an element and keep the focus at its position. */
  const replaceKeepingFocus = (parent, children) => {
    const old = [...parent.querySelectorAll("button, select")].indexOf(document.activeElement);
    parent.replaceChildren(...children);
    if (old >= 0) parent.querySelectorAll("button, select")[old]?.focus({ preventScroll: true });
  };
  const renderTabs = () => {
    const current = state.view ?? defaultView();
    const tabs = VIEWS.map((name) => button(translate(name), () => navigate({ view: name, case: undefined, at: undefined }), {
      role: "tab", id: `tab-${name}`, "aria-controls": "view", "aria-selected": String(name === current), tabindex: name === current ? 0 : -1 }));
    replaceKeepingFocus(byId("tabs"), tabs);
    byId("view").setAttribute("aria-labelledby", `tab-${current}`);
  };
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const view = VIEWS[(VIEWS.indexOf(state.view ?? defaultView()) + step + VIEWS.length) % VIEWS.length];
    navigate({ view, case: undefined, at: undefined });
    byId(`tab-${view}`).focus();
  });

  // The overview

  const outcomeOf = (i) => {
    const expected = valueAt("expected", i), status = valueAt("status", i);
    return expected === "unexpected" || expected === "stale" ? "unexpected" : expected === "known" ? "known_value" : OUTCOMES.includes(status) ? status : "unexpected";
  };
  const lookOf = (outcome) => (outcome === "known_value" ? "known" : outcome);
  /** Number of rows of each outcome. */
  const outcomesOf = (found) => {
    const counts = new Map(OUTCOMES.map((name) => [name, 0]));
    for (const i of found) counts.set(outcomeOf(i), counts.get(outcomeOf(i)) + 1);
    return counts;
  };
  const filterOf = (outcome) => (outcome === "known_value" ? { expected: "known" } : outcome === "unexpected" ? { expected: "unexpected" } : { status: outcome });
  const byFunction = (found) => {
    const { values, codes } = columns.function;
    const own = new Map();
    for (const i of found) {
      if (!own.has(codes[i])) own.set(codes[i], []);
      own.get(codes[i]).push(i);
    }
    // Shares of the rows that have an answer; functions without any come last.
    const shares = (counts, answered) => [answered ? 0 : 1, ...["unexpected", "known_value", "diverges"].map((name) => counts.get(name) / (answered || 1))];
    const lines = [...own].map(([code, members]) => {
      const counts = outcomesOf(members), asked = members.length - counts.get("unsupported");
      return { name: values[code], members, counts, asked, rank: shares(counts, asked - counts.get("undefined")) };
    });
    return lines.sort((a, b) => a.rank.reduce((order, one, k) => order || one - b.rank[k], 0) || (a.name < b.name ? -1 : 1));
  };
  const outcomeBar = (counts, asked) => make("span", { class: "outcomes", "aria-hidden": "true" }, OUTCOMES.slice(0, -1).filter((name) => counts.get(name)).map((name) => {
    const part = make("span", { class: `part ${lookOf(name)}` });
    part.style.flexGrow = String(Math.max(counts.get(name) / asked, 0.004));
    return part;
  }));
  const outcomeCells = (name, counts) => OUTCOMES.slice(0, 4).map((outcome) => make("td", { "data-name": translate(outcome) }, counts.get(outcome)
    ? make("a", { href: hashFor({ function: name, ...filterOf(outcome), view: "table" }), class: outcome === "unexpected" ? "beyond" : null }, formatCount(counts.get(outcome))) : "0"));
  const functionTable = (found) => {
    const head = ["function", "version", "rows", ...OUTCOMES.slice(0, 4)].map((key) => make("th", { scope: "col" }, translate(key)));
    head.splice(2, 0, make("td", {}));
    const lines = byFunction(found).map(({ name, members, counts, asked }) => make("tr", {},
      make("th", { scope: "row" }, make("a", { href: hashFor({ function: name, view: "matrix" }) }, breakable(name))),
      make("td", { "data-name": translate("version") }, distinct("version", members).join(", ")),
      make("td", { class: "bar-cell" }, outcomeBar(counts, asked)),
      make("td", { "data-name": translate("rows") }, formatCount(asked)), outcomeCells(name, counts)));
    return make("table", { class: "groups overview" }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, lines));
  };
  /** The groups with most rows, as a list that leads to them. */
  const findingList = (name, found, look) => {
    const groups = grouped(name, found).slice(0, MAX_LINES.overview);
    return make("ol", { class: "findings" }, groups.map((group) => make("li", { class: look },
      make("p", {}, titleOf[name]?.(group) ?? withLinks(group.choice)),
      make("p", { class: "help" }, breakable(distinct("function", group.rows).join(", ")), ": ",
        make("a", { href: hashFor({ [name]: group.choice, view: "table" }), "aria-label": translate("show_rows", { count: group.rows.length, name: group.choice }) }, translate(group.rows.length === 1 ? "row_count" : "rows_count", { count: formatCount(group.rows.length) }))))));
  };
  const findingSection = (key, name, found, look, view) => {
    if (!found.length) return [];
    const count = grouped(name, found).length;
    return [make("h2", {}, translate(key)), findingList(name, found, look),
      count > MAX_LINES.overview ? make("p", {}, make("a", { href: hashFor({ view }) }, translate("all_of", { count: formatCount(count) }))) : null];
  };
  const MEANINGS = "https://github.com/cross-entropy-conformance/cross-entropy-conformance/blob/main/conformance/docs/pages/how-to/read-a-verdict.md#";
  const meaningLink = (name) => make("a", { href: MEANINGS + name.replace("_value", ""), rel: "noopener noreferrer", target: "_blank" }, translate(name));
  const statusHelp = () => make("details", { class: "meanings" }, make("summary", {}, translate("what_statuses_mean")),
    make("dl", {}, [...run.statuses.filter((status) => facets.status.number.has(status)), "known_value", "unexpected"].map((name) =>
      make("div", {}, make("dt", {}, statusMark(lookOf(name)), meaningLink(name)), make("dd", {}, translate(`${name}_means`))))),
    make("p", {}, withLinks(translate("read_more"))));
  const overview = () => {
    const found = [...passingRows()], counts = outcomesOf(found);
    if (!found.length) return [emptyNote()];
    const count = (name) => formatCount(counts.get(name));
    const bad = counts.get("unexpected");
    const clauses = OUTCOMES.filter((name) => name !== "unexpected" && counts.get(name)).map((name) => translate(`${name}_clause`, { count: count(name) }));
    return [
      make("p", { class: `verdict ${bad ? "disagrees" : "agrees"}` }, make("b", {}, statusMark(bad ? "disagrees" : "agrees"), translate(bad ? "verdict_bad" : "verdict_good", { count: count("unexpected") })), ` ${clauses.join(translate("clause_joint"))}${translate("full_stop")}`),
      statusHelp(),
      ...findingSection("new_findings", "finding", found.filter((i) => outcomeOf(i) === "unexpected"), "disagrees", "causes"),
      make("h2", {}, translate("functions_heading")), make("p", { class: "help" }, translate("functions_help")), functionTable(found),
      ...findingSection("known_findings", "known", found.filter((i) => outcomeOf(i) === "known_value"), "known", "known_view"),
      ...findingSection("documented_differences", "convention", found.filter((i) => valueAt("status", i) === "diverges" && valueAt("convention", i)), "diverges", "causes"),
    ];
  };

  // The matrix

  const countsOf = (found) => {
    const { values, codes } = columns.status;
    const counts = new Map();
    for (const i of found) counts.set(values[codes[i]], (counts.get(values[codes[i]]) ?? 0) + 1);
    return counts;
  };
  const worst = (counts) => WORST.find((status) => counts.get(status)) ?? "undefined";
  const countsText = (counts) => WORST.filter((status) => counts.get(status)).map((status) => `${translateValue("status", status)} ${counts.get(status)}`).join(", ");
  /** The shares of the statuses as a background image; there are thousands of cells, so it is not an element. */
  const statusBar = (counts, total) => {
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
    for (const i of passingRows("family", "function")) {
      const key = family.codes[i] * functions.values.length + functions.codes[i];
      if (!cells.has(key)) cells.set(key, new Map());
      const status = statuses.values[statuses.codes[i]];
      cells.get(key).set(status, (cells.get(key).get(status) ?? 0) + 1);
      const expected = valueAt("expected", i);
      if (expected === "unexpected" || expected === "stale") alarms.set(key, (alarms.get(key) ?? 0) + 1);
    }
    const byName = (values) => values.map((_, i) => i).sort((a, b) => (values[a] < values[b] ? -1 : 1));
    const presentFunctions = new Set([...cells.keys()].map((key) => key % functions.values.length));
    const columnOrder = byName(functions.values).filter((i) => presentFunctions.has(i));
    const presentFamilies = new Set([...cells.keys()].map((key) => Math.floor(key / functions.values.length)));
    const rowOrder = byName(family.values).filter((i) => presentFamilies.has(i));
    if (!rowOrder.length) return [emptyNote()];
    const toggled = (name, value) => ({ [name]: state[name] === value ? undefined : value });
    const head = make("tr", {}, make("th", { scope: "col" }, translate("family")), columnOrder.slice(0, MAX_LINES.functions).map((f) => {
      const name = functions.values[f];
      return make("th", { scope: "col", class: "turned" }, button(make("span", {}, breakable(name)), () => navigate(toggled("function", name)),
        { class: "plain", title: name, "aria-pressed": String(state.function === name) }));
    }));
    let group = "";
    const withQuantity = (text) => text.replace(/\((\w+)\)$/, (_, quantity) => `(${translateValue("quantity", quantity)})`);
    const lineOf = (r) => {
      const name = family.values[r], rowElements = [];
      const folder = name.includes("/") ? name.slice(0, name.indexOf("/")) : "";
      if (folder !== group) {
        group = folder;
        rowElements.push(make("tr", { class: "folder" }, make("th", { scope: "colgroup", colspan: columnOrder.length + 1 }, folder)));
      }
      const line = [make("th", { scope: "row" }, button(withQuantity(name.slice(folder ? folder.length + 1 : 0)).replaceAll("_", "_\u200b"), () => navigate(toggled("family", name)),
        { class: "plain", title: name, "aria-pressed": String(state.family === name) }))];
      for (const f of columnOrder.slice(0, MAX_LINES.functions)) {
        const counts = cells.get(r * functions.values.length + f);
        if (!counts) { line.push(make("td", {}, make("span", { class: "unseen" }, translate("not_asked")))); continue; }
        const alarm = alarms.get(r * functions.values.length + f);
        const status = worst(counts), total = [...counts.values()].reduce((a, b) => a + b, 0);
        const label = translate("cell", { function: functions.values[f], family: name, counts: countsText(counts) + (alarm ? `; ${translate("unexpected")} ${alarm}` : "") });
        const on = state.family === name && state.function === functions.values[f];
        const cell = button([statusMark(status), String(counts.get(status)), total > counts.get(status) ? make("small", {}, `/${total}`) : null, alarm ? make("b", { class: "alarm" }, ` !${alarm}`) : null],
          () => navigate(on ? { family: undefined, function: undefined } : { family: name, function: functions.values[f], view: "table" }),
          { class: `cell ${status}`, "aria-label": label, title: label, "aria-pressed": String(on) });
        cell.style.backgroundImage = statusBar(counts, total);
        line.push(make("td", {}, cell));
      }
      return [...rowElements, make("tr", {}, line)];
    };
    const lines = rowOrder.slice(0, MAX_LINES.matrix), body = make("tbody");
    const region = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": translate("matrix"), "aria-busy": "true" },
      make("table", { class: "matrix" }, make("colgroup", {}, make("col", { class: "families" }), make("col", { span: Math.max(1, Math.min(columnOrder.length, MAX_LINES.functions)) })), make("thead", {}, head), body));
    const appendRows = (most) => {
      body.append(...lines.splice(0, most).flatMap(lineOf));
      region.setAttribute("aria-busy", String(lines.length > 0));
      if (lines.length) setTimeout(() => region.isConnected && appendRows(ROWS_PER_STEP));
    };
    // If a reader has scrolled down, render that far at once.
    appendRows(ROWS_PER_STEP + Math.ceil((byId("view").querySelector(".scroll")?.scrollTop ?? 0) / 26));
    return [make("p", { class: "help" }, translate("matrix_help")), legend(), region, moreNote(rowOrder.length - MAX_LINES.matrix), moreNote(columnOrder.length - MAX_LINES.functions)];
  };
  const breakable = (name) => name.replace(/\.(?!\d)|[:=]/g, "$&\u200b").replace(/([a-z])([A-Z])/g, "$1\u200b$2").replaceAll("_", "_\u200b");
  const legend = () => make("p", { class: "legend" }, run.statuses.filter((status) => facets.status.number.has(status)).map(statusTag));
  const emptyNote = () => make("p", { class: "nothing" }, translate("nothing"));
  const moreNote = (count) => (count > 0 ? make("p", { class: "help" }, translate("more", { count: formatCount(count) })) : null);

  // Causes and known discrepancies

  const grouped = (name, found) => {
    const { codes, choices, of } = facets[name];
    const groups = choices.map((choice) => ({ choice, rows: [] }));
    for (const i of found) for (const choice of of[codes[i]]) groups[choice].rows.push(i);
    return groups.filter((group) => (group.choice || name === "finding") && group.rows.length).sort((a, b) => b.rows.length - a.rows.length || (a.choice < b.choice ? -1 : 1));
  };
  const distinct = (name, found) => [...new Set(found.map((i) => valueAt(name, i)))].sort();
  const titleOf = {
    convention: (group) => make("code", {}, unbroken(breakable(group.choice))),
    finding: (group) => [make("code", {}, unbroken(breakable(group.choice || translate("none")))), make("small", {}, ` ${translate("for_example")} `, withLinks(valueAt("explanation", group.rows[0])))],
  };
  const groupTable = (name, found, filters) => {
    const groups = grouped(name, found);
    if (!groups.length) return [emptyNote()];
    const head = [name === "known" ? "reason" : "cause", "rows", "frameworks", "functions", "statuses", "show"].map((key) => make("th", { scope: "col" }, translate(key)));
    const lines = groups.slice(0, MAX_LINES.groups).map((group) => {
      const functions = distinct("function", group.rows), frameworks = distinct("framework", group.rows), counts = countsOf(group.rows);
      const cell = (key, ...children) => make("td", { "data-name": translate(key) }, ...children);
      const target = hashFor({ ...Object.fromEntries([...FACETS, "q", "case", "at"].map((key) => [key, undefined])), ...filters, [name]: group.choice, view: "table" });
      return make("tr", {},
        make("th", { scope: "row" }, titleOf[name]?.(group) ?? withLinks(group.choice)),
        cell("rows", formatCount(group.rows.length)),
        cell("frameworks", make("span", {}, `${frameworks.length}: ${frameworks.join(", ")}`)),
        cell("functions", make("span", { class: "functions" }, breakable(functions.slice(0, 6).join(", ")) + (functions.length > 6 ? ` … ${functions.length}` : ""))),
        cell("statuses", make("span", { class: "tags" }, WORST.filter((status) => counts.get(status)).map((status) => make("span", { class: "tag" }, statusMark(status), `${translateValue("status", status)} ${formatCount(counts.get(status))}`)))),
        make("td", {}, make("a", { href: target, "aria-label": translate("show_rows", { count: group.rows.length, name: group.choice }) }, translate("show"))));
    });
    return [make("table", { class: `groups by-${name}` }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, lines)), moreNote(groups.length - MAX_LINES.groups)];
  };
  const causes = () => {
    const found = [...passingRows()].filter((i) => valueAt("status", i) !== "agrees");
    return [make("p", { class: "help" }, translate("causes_help")),
      make("h2", {}, translate("by_convention")), ...groupTable("convention", found, {}),
      make("h2", {}, translate("by_conversion")), ...groupTable("conversion", found, {}),
      make("h2", {}, translate("by_known")), ...groupTable("known", found, {}),
      make("h2", {}, translate("by_finding")), ...groupTable("finding", found.filter((i) => !valueAt("convention", i) && !valueAt("conversion", i) && !valueAt("known", i)), {})];
  };
  const knownView = () => [make("p", { class: "help" }, translate("known_help")), ...groupTable("known", [...passingRows()], {})];

  // Errors in units of the budget

  const SCALE = { from: -4, to: 2, width: 600, left: 10 };
  const xOfRatio = (ratio) => {
    const exponent = Math.min(SCALE.to, Math.max(SCALE.from, ratio > 0 ? Math.log10(ratio) : SCALE.from));
    return SCALE.left + ((exponent - SCALE.from) / (SCALE.to - SCALE.from)) * (SCALE.width - 2 * SCALE.left);
  };
  const quantile = (values, fraction) => values[Math.min(values.length - 1, Math.floor(fraction * values.length))];
  const quantileStrip = (values) => {
    const svg = draw("svg", { viewBox: `0 0 ${SCALE.width} 28`, preserveAspectRatio: "none", "aria-hidden": "true", class: "strip" });
    svg.append(draw("rect", { x: xOfRatio(1), y: 0, width: SCALE.width - xOfRatio(1), height: 28, class: "over" }));
    const many = Math.min(values.length, 240);
    let ticks = "";
    for (let i = 0; i < many; i++) ticks += `M${xOfRatio(values[Math.floor((i * values.length) / many)]).toFixed(1)} 18v8`;
    svg.append(draw("path", { d: ticks, class: "ticks" }));
    const [low, first, middle, third, high] = [0.05, 0.25, 0.5, 0.75, 0.95].map((fraction) => xOfRatio(quantile(values, fraction)));
    svg.append(draw("path", { d: `M${low} 9H${high}`, class: "whisker" }));
    svg.append(draw("rect", { x: first, y: 4, width: Math.max(1.5, third - first), height: 10, class: "box" }));
    svg.append(draw("path", { d: `M${middle} 2v14`, class: "median" }));
    svg.append(draw("path", { d: `M${xOfRatio(values.at(-1))} 4v10`, class: values.at(-1) > 1 ? "largest beyond" : "largest" }));
    svg.append(draw("path", { d: `M${xOfRatio(1)} 0v28`, class: "limit" }));
    return svg;
  };
  const axis = () => {
    const svg = draw("svg", { viewBox: `0 0 ${SCALE.width} 20`, class: "axis", "aria-hidden": "true" });
    for (let exponent = SCALE.from; exponent <= SCALE.to; exponent++) {
      const text = draw("text", { x: xOfRatio(10 ** exponent), y: 14, "text-anchor": exponent === SCALE.from ? "start" : exponent === SCALE.to ? "end" : "middle" });
      text.textContent = exponent === SCALE.from ? "≤1e-4" : exponent === SCALE.to ? "≥100" : formatNumber(10 ** exponent);
      svg.append(text);
    }
    return svg;
  };
  const errors = () => {
    const groups = new Map(), { values, codes } = columns.ratio;
    const functions = columns.function, dtypes = columns.dtype;
    for (const i of passingRows()) {
      const ratio = values[codes[i]];
      if (Number.isNaN(ratio)) continue;
      const key = functions.codes[i] * dtypes.values.length + dtypes.codes[i];
      if (!groups.has(key)) groups.set(key, { function: valueAt("function", i), dtype: valueAt("dtype", i), finite: [], infinite: 0 });
      if (Number.isFinite(ratio)) groups.get(key).finite.push(ratio); else groups.get(key).infinite++;
    }
    if (!groups.size) return [emptyNote()];
    const order = [...groups.values()].sort((a, b) => (a.function < b.function ? -1 : a.function > b.function ? 1 : a.dtype < b.dtype ? -1 : 1));
    const lines = [];
    let before = "";
    for (const { function: name, dtype, finite, infinite } of order.slice(0, MAX_LINES.groups)) {
      const ratios = Float64Array.from(finite).sort();
      if (name !== before) lines.push(make("h2", {}, breakable(name)));
      before = name;
      const count = ratios.length + infinite;
      const quantiles = ratios.length ? { median: formatNumber(quantile(ratios, 0.5)), high: formatNumber(quantile(ratios, 0.95)), max: formatNumber(ratios.at(-1)) } : {};
      const label = translate("errors_row", { function: name, dtype, count, ...quantiles });
      lines.push(make("div", { class: "line" },
        button(make("span", {}, dtype, make("small", {}, ` ${formatCount(count)}`)), () => navigate({ function: name, dtype, view: "table", sort: "-ratio" }), { class: "plain", "aria-label": label, title: label }),
        ratios.length ? quantileStrip(ratios) : make("span", {}),
        make("span", { class: "numbers" }, ratios.length ? make("span", {}, `${translate("median")} ${quantiles.median}`) : null,
          ratios.length ? make("span", { class: ratios.at(-1) > 1 ? "beyond" : "" }, `${translate("largest")} ${quantiles.max}`) : null,
          infinite ? make("span", { class: "beyond" }, translate("infinite", { count: infinite })) : null)));
    }
    return [make("p", { class: "help" }, translate("errors_help")), make("div", { class: "errors" }, make("div", { class: "line top" }, make("span", {}), axis(), make("span", {})), lines), moreNote(order.length - MAX_LINES.groups), ...bySize()];
  };

  // Scatter plots on logarithmic axes; points at the same pixel are drawn once

  const PLOT = { width: 620, height: 260, left: 56, right: 12, top: 10, bottom: 34 };
  /** points: pairs [x, y] with x > 0; y = 0 lies on the lower edge.  The figure has a textual label and a table of its numbers. */
  const scatterPlot = (points, name, lines = false) => {
    const span = Math.ceil(points.reduce((most, [x]) => Math.max(most, Math.log10(x)), 1));
    const [left, right] = [PLOT.left, PLOT.width - PLOT.right], [upperEdge, lowerEdge] = [PLOT.top, PLOT.height - PLOT.bottom];
    const xOf = (x) => left + (Math.log10(x) / span) * (right - left);
    const yOf = (y) => { const e = Math.min(SCALE.to, Math.max(SCALE.from, y > 0 ? Math.log10(y) : SCALE.from)); return lowerEdge - ((e - SCALE.from) / (SCALE.to - SCALE.from)) * (lowerEdge - upperEdge); };
    const svg = draw("svg", { viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, class: "plane", role: "img" });
    const label = (text, x, y, anchor) => { const one = draw("text", { x, y, "text-anchor": anchor }); one.textContent = text; svg.append(one); };
    const decadeLabels = ["1", "10", "100", "10³", "10⁴", "10⁵", "10⁶", "10⁷", "10⁸", "10⁹"];
    for (let e = 0; e <= span; e++) { svg.append(draw("path", { d: `M${xOf(10 ** e)} ${upperEdge}V${lowerEdge}`, class: "rule" })); label(decadeLabels[e] ?? `1e${e}`, xOf(10 ** e), lowerEdge + 15, "middle"); }
    for (let e = SCALE.from; e <= SCALE.to; e++) { svg.append(draw("path", { d: `M${left} ${yOf(10 ** e)}H${right}`, class: e === 0 ? "limit" : "rule" })); label(e === SCALE.from ? "≤1e-4" : e === SCALE.to ? "≥100" : formatNumber(10 ** e), left - 5, yOf(10 ** e) + 4, "end"); }
    label(name, (left + right) / 2, PLOT.height - 4, "middle");
    const places = new Set(points.map(([x, y]) => `${Math.round(xOf(x))} ${Math.round(yOf(y))}`));
    if (lines) svg.append(draw("path", { d: points.map(([x, y], i) => `${i ? "L" : "M"}${xOf(x).toFixed(1)} ${yOf(y).toFixed(1)}`).join(""), class: "curve" }));
    svg.append(draw("path", { d: [...places].map((place) => `M${place}h0`).join(""), class: "points" }));
    const decades = new Map();
    for (const [x, y] of points) {
      const decade = Math.floor(Math.log10(x) + 1e-9);
      const [count, most] = decades.get(decade) ?? [0, 0];
      decades.set(decade, [count + 1, Math.max(most, y)]);
    }
    const decadeTexts = [...decades].sort(([a], [b]) => a - b).map(([decade, [count, most]]) => [`${formatCount(10 ** decade)}–${formatCount(10 ** (decade + 1) - 1)}`, formatCount(count), formatNumber(most)]);
    svg.setAttribute("aria-label", `${name}: ${decadeTexts.map(([where, count, most]) => translate("decade", { where, count, most })).join("; ")}`);
    return make("figure", {}, svg, make("details", {}, make("summary", {}, translate("numbers")), make("table", { class: "groups" },
      make("thead", {}, make("tr", {}, [name, translate("rows"), translate("largest")].map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, decadeTexts.map(([where, ...rest]) => make("tr", {}, make("th", { scope: "row" }, where), rest.map((text) => make("td", {}, text))))))));
  };
  const bySize = () => {
    const { values, codes } = columns.ratio, sizes = columns.case.values.map((id) => (Object.hasOwn(run.sizes, id) ? run.sizes[id] : null));
    const found = [[], []];
    for (const i of shownRows) {
      const size = sizes[columns.case.codes[i]], ratio = values[codes[i]];
      if (!size || !Number.isFinite(ratio)) continue;
      size.forEach((x, which) => { if (x >= 1) found[which].push([x, ratio]); });
    }
    if (!found[0].length) return [];
    return [make("h2", {}, translate("by_size")), make("p", { class: "help" }, translate("by_size_help")),
      make("div", { class: "planes" }, scatterPlot(found[0], translate("samples")), scatterPlot(found[1], translate("classes")))];
  };

  // The supplement of the rows: sweeps, changes from another report, releases

  const SUPPLEMENT_FILTERS = ["framework", "function", "dtype", "reduction", "quantity"];
  const matching = (lines) => lines.filter((line) =>
    SUPPLEMENT_FILTERS.every((name) => {
      if (state[name] === undefined) return true;
      const value = name === "framework" && !line.framework && line.function ? line.function.split(".")[0] : line[name];
      return value === undefined || value === state[name];
    }) && (state.q ?? "").toLowerCase().split(/\s+/).filter(Boolean).every((term) =>
      Object.values(line).some((value) => typeof value === "string" && value.toLowerCase().includes(term))));
  const number = (value) => (typeof value === "string" ? Number(value.replace("inf", "Infinity")) : value ?? NaN);
  const omittedNote = (supplement, name) => (supplement.omitted[name] > 0 ? make("p", { class: "help" }, translate("omitted", { count: formatCount(supplement.omitted[name]) })) : null);
  const simpleTable = (kind, heads, lines) => make("table", { class: `groups ${kind}` }, make("thead", {}, make("tr", {}, heads.map((key) => make("th", { scope: "col" }, translate(key))))),
    make("tbody", {}, lines.map(([first, ...rest]) => make("tr", {}, make("th", { scope: "row" }, first), rest.map((cell, i) => make("td", { "data-name": translate(heads[i + 1]) }, cell))))));
  const caseLink = (id, at) => make("a", { href: hashFor({ case: id, at }) }, withBreaks(id));

  const SEVERITY_CLASSES = { regression: "disagrees", change: "known", improvement: "agrees", note: "undefined", convention: "diverges", support: "undefined", exception: "undefined", warning: "undefined" };
  const severityBadge = (name) => make("span", { class: `badge ${SEVERITY_CLASSES[name] ?? "undefined"}` }, Object.hasOwn(STRINGS[language], name) ? translate(name) : name);
  const groupLines = (lines, keyOf) => {
    const groups = new Map();
    for (const line of lines) { const key = keyOf(line); if (!groups.has(key)) groups.set(key, []); groups.get(key).push(line); }
    return groups;
  };
  const changes = (supplement) => {
    const found = matching(supplement.changes);
    const side = (line, of) => make("div", { class: "side" }, statusMark(line[`${of}_status`]), make("code", {}, line[`${of}_got`] || line[`${of}_exception`] || translate("none")),
      line[`${of}_convention`] ? make("small", {}, line[`${of}_convention`]) : null);
    const lines = found.slice(0, MAX_LINES.groups).map((line) => [
      make("div", {}, severityBadge(line.severity), " ", caseLink(line.case, [line.dtype, line.reduction, line.quantity].join(","))),
      `${line.function}, ${translate("same_problem", { dtype: line.dtype, reduction: line.reduction, quantity: translateValue("quantity", line.quantity) })}`,
      side(line, "old"), side(line, "new"), formatNumber(number(line.budgets)), line.what]);
    return [make("p", { class: "help" }, translate("changes_help")), ...supplement.against.map((text) => make("p", {}, text)),
      lines.length ? simpleTable("changed", ["case", "function", "before", "after", "moved_by", "why"], lines) : emptyNote(), moreNote(found.length - MAX_LINES.groups), omittedNote(supplement, "changes")];
  };

  /** A histogram of errors in ulps; the height is logarithmic, so that a single input shows. */
  const histogram = (counts) => {
    const total = counts.reduce((a, b) => a + b, 0), most = Math.log1p(Math.max(...counts)) || 1;
    const last = counts.reduce((end, count, i) => (count ? i : end), 0), bins = Math.max(8, last + 1);
    const svg = draw("svg", { viewBox: `0 0 ${bins * 10} 40`, class: "histogram", role: "img", preserveAspectRatio: "none" });
    const upTo = (i) => (i === counts.length - 1 ? "∞" : i === counts.length - 2 ? translate("more_ulps") : formatNumber(2 ** (i - 1)));
    const binTexts = [];
    counts.slice(0, bins).forEach((count, i) => {
      if (!count) return;
      const height = 3 + (37 * Math.log1p(count)) / most;
      svg.append(draw("rect", { x: i * 10 + 1, y: 40 - height, width: 8, height, class: i > 3 ? "bin beyond" : "bin" }));
      binTexts.push(translate("bin", { to: upTo(i), share: formatNumber((100 * count) / total) }));
    });
    svg.setAttribute("aria-label", binTexts.join(", "));
    const title = draw("title");
    title.textContent = binTexts.join(", ");
    svg.prepend(title);
    return svg;
  };
  const sumHistograms = (lines) => lines.reduce((sum, line) => line.histogram.map((count, i) => count + (sum[i] ?? 0)), []);
  const worstInput = (line, which) => (line[which] == null ? "" : make("div", { class: "extreme" }, make("b", {}, formatNumber(number(line[which]))), " ",
    translate("at_input"), " ", make("code", {}, `${line[`${which}_at`]} = ${line[`${which}_at_hex`]}`), `, ${translate("returned")} `, make("code", {}, String(line[`${which}_got`])), `, ${translate("exact_is")} `, make("code", {}, String(line[`${which}_want`]))));
  const largest = (lines, name) => lines.reduce((most, line) => { const own = number(line[name]); return own > most ? own : most; }, 0);
  const sweep = (supplement) => {
    const found = matching(supplement.sweep), means = matching(supplement.means);
    const summary = (key, lines, extra) => {
      const counts = countsBy(lines);
      return make("summary", {}, make("span", { class: "tags" }, make("b", {}, key), ...WORST.filter((status) => counts.get(status)).map((status) => make("span", { class: "tag" }, statusMark(status), `${translateValue("status", status)} ${counts.get(status)}`)), make("span", {}, extra)));
    };
    const countsBy = (lines) => { const counts = new Map(); for (const line of lines) counts.set(line.status, (counts.get(line.status) ?? 0) + 1); return counts; };
    const opening = (fill) => ({ toggle: (event) => { if (event.target.open && event.target.childElementCount === 1) event.target.append(...fill()); } });
    const sections = [...groupLines(found, (line) => [line.function, line.version, line.dtype, line.given, line.target].join(" "))].slice(0, MAX_LINES.groups).map(([key, lines]) => {
      const inputs = lines.reduce((sum, line) => sum + line.count, 0);
      const fill = () => [simpleTable("regions", ["region", "inputs", "status", "ulps", "worst_ulps", "worst_budgets"], lines.map((line) => [
        `${line.region} y=${line.label}`, formatCount(line.count), make("div", {}, statusTag(line.status), line.expected === "ok" ? null : make("small", { class: `badge ${line.expected}` }, translateValue("expected", line.expected)), line.convention ? make("div", {}, make("small", {}, line.convention)) : null, line.known ? make("div", {}, make("small", {}, withLinks(line.known))) : null, line.why ? make("div", {}, make("small", {}, line.why)) : null),
        histogram(line.histogram), worstInput(line, "ulps"), make("div", {}, worstInput(line, "ratio"), line.call ? button(translate("copy"), () => copied(line.call), { class: "copy small", "aria-label": `${translate("copy")}: ${translate("call")} ${line.region} y=${line.label}` }) : null)]))];
      return make("details", { on: opening(fill) }, summary(key, lines, make("span", { class: "overall" }, histogram(sumHistograms(lines)), ` ${translate("swept", { inputs: formatCount(inputs), ulps: formatNumber(largest(lines, "ulps")), budgets: formatNumber(largest(lines, "ratio")) })}`)));
    });
    const curves = [...groupLines(means, (line) => [line.function, line.version, line.dtype, line.given, line.target].join(" "))].slice(0, MAX_LINES.groups).map(([key, lines]) => {
      const points = lines.filter((line) => Number.isFinite(number(line.ratio))).map((line) => [line.length, number(line.ratio)]);
      const fill = () => [points.length ? scatterPlot(points, translate("length"), true) : emptyNote(),
        simpleTable("means", ["length", "status", "ulps", "ratio"], lines.map((line) => [formatCount(line.length), statusTag(line.status), formatNumber(number(line.ulps)), formatNumber(number(line.ratio))]))];
      return make("details", { on: opening(fill) }, summary(key, lines, translate("mean_swept", { budgets: formatNumber(largest(lines, "ratio")) })));
    });
    return [make("p", { class: "help" }, translate("sweep_help")), ...(sections.length || curves.length ? sections : [emptyNote()]), omittedNote(supplement, "sweep"),
      ...(curves.length ? [make("h2", {}, translate("mean_view")), make("p", { class: "help" }, translate("mean_help")), ...curves] : []), omittedNote(supplement, "means")];
  };

  const ORDER = ["regression", "change", "improvement", "convention", "support", "exception", "warning", "note"];
  const releases = (supplement) => {
    const found = matching(supplement.history);
    if (!found.length) return [emptyNote()];
    const age = (a, b) => a.localeCompare(b, "en", { numeric: true });
    const parts = [make("p", { class: "help" }, translate("history_help")), make("p", { class: "legend" }, ORDER.filter((kind) => found.some((line) => line.kind === kind)).map(severityBadge))];
    for (const [framework, lines] of groupLines(found, (line) => line.framework)) {
      const columnOrder = [...new Set(lines.map((line) => line.release))].sort(age), cells = groupLines(lines, (line) => `${line.function}\n${line.release}`);
      const body = [...new Set(lines.map((line) => line.function))].sort().map((name) => make("tr", {}, make("th", { scope: "row" }, breakable(name)), columnOrder.map((release) => {
        const own = cells.get(`${name}\n${release}`);
        if (!own) return make("td", {});
        const kind = ORDER.find((one) => own.some((line) => line.kind === one)) ?? own[0].kind, count = own.reduce((sum, line) => sum + (Number(line.rows) || 0), 0);
        const label = `${name} ${release}: ${own.map((line) => `${line.kind}: ${line.what} (${line.rows})`).join("; ")}`;
        return make("td", {}, make("a", { class: `cell ${SEVERITY_CLASSES[kind] ?? "undefined"}`, href: hashFor({ q: `${name} ${release}`, view: "history" }), title: label, "aria-label": label }, `${Object.hasOwn(STRINGS[language], kind) ? translate(kind) : kind} ${formatCount(count)}`));
      })));
      parts.push(make("h2", {}, framework),
        make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": framework }, make("table", { class: "matrix drift" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, translate("function")), columnOrder.map((release) => make("th", { scope: "col" }, release)))), make("tbody", {}, body))),
        make("details", { on: { toggle: (event) => { if (event.target.open && event.target.childElementCount === 1) event.target.append(simpleTable("drifted", ["release", "function", "kind", "what", "rows", "shift", "case", "before", "after", "source"], lines.slice(0, MAX_LINES.groups).map((line) =>
          [line.release, line.function, severityBadge(line.kind), line.what, line.rows, line.shift, columns.case.values.includes(line.case.split(" ")[0]) ? caseLink(line.case.split(" ")[0]) : line.case, make("code", {}, line.before), make("code", {}, line.answer), make("span", {}, withLinks(line.source))]))); } } },
          make("summary", {}, translate("changes_count", { count: formatCount(lines.length) }))), moreNote(lines.length - MAX_LINES.groups));
    }
    return [...parts, omittedNote(supplement, "history")];
  };

  // The table: only the rows in sight are in the document

  const table = () => {
    const grid = make("div", { class: "grid", id: "grid", role: "grid", tabindex: 0, "aria-label": translate("grid"), "aria-rowcount": shownRows.length + 1, "aria-colcount": COLUMNS.length });
    const [, descending, by] = /^(-?)(\w+)$/.exec(state.sort ?? "") ?? [];
    const head = make("div", { role: "row", class: "row head", "aria-rowindex": 1 }, COLUMNS.map((name) => {
      const order = by === name ? (descending ? "descending" : "ascending") : "none";
      const next = by !== name ? (NUMBERS.has(name) ? `-${name}` : name) : descending === (NUMBERS.has(name) ? "-" : "") ? (descending ? name : `-${name}`) : undefined;
      if (UNSORTED.has(name)) return make("div", { role: "columnheader", class: name }, translate(name));
      return make("div", { role: "columnheader", class: name, "aria-sort": order }, button(`${translate(name)}${order === "none" ? "" : order === "ascending" ? " ▲" : " ▼"}`, () => navigate({ sort: next }, true), { class: "plain" }));
    }));
    const body = make("div", { role: "rowgroup", class: "body" });
    grid.append(make("div", { role: "rowgroup", class: "heads" }, head), body);
    const phone = matchMedia("(max-width: 700px)").matches;
    const height = phone ? 124 : 34;
    body.style.height = `${shownRows.length * height}px`;
    active = Math.min(active, Math.max(0, shownRows.length - 1));
    const place = () => {
      const first = Math.max(0, Math.floor(grid.scrollTop / height) - 8);
      const last = Math.min(shownRows.length, first + Math.ceil((grid.clientHeight || 600) / height) + 18);
      const lines = [];
      for (let k = first; k < last; k++) {
        const line = gridRow(shownRows[k], k);
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
      if (event.target !== grid || !shownRows.length) return;
      const page = Math.max(1, Math.floor(grid.clientHeight / height) - 2);
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -shownRows.length, End: shownRows.length }[event.key];
      if (event.key === "Enter") { event.preventDefault(); open(shownRows[active]); return; }
      if (step === undefined) return;
      event.preventDefault();
      active = Math.min(shownRows.length - 1, Math.max(0, active + step));
      const top = active * height, seen = grid.clientHeight - 2 * height;
      if (top < grid.scrollTop) grid.scrollTop = top;
      else if (top > grid.scrollTop + seen) grid.scrollTop = top - seen;
      place();
    });
    body.addEventListener("click", (event) => {
      const line = event.target.closest("[data-place]");
      if (!line) return;
      active = Number(line.dataset.place);
      open(shownRows[active]);
    });
    const sortBy = make("select", { id: "sort", on: { change: (event) => navigate({ sort: event.target.value || undefined }, true) } },
      make("option", { value: "" }, translate("none")),
      COLUMNS.filter((name) => !UNSORTED.has(name)).flatMap((name) => [make("option", { value: name }, `${translate(name)}, ${translate("ascending")}`), make("option", { value: `-${name}` }, `${translate(name)}, ${translate("descending")}`)]));
    sortBy.value = state.sort ?? "";
    if (!detail) loadDetail().then(() => grid.isConnected && place()).catch(failed);
    return [make("label", { class: "sort" }, make("span", {}, translate("sort")), sortBy), shownRows.length ? grid : emptyNote(), { placed: () => { grid.scrollTop = Math.max(0, active - 3) * height; place(); } }];
  };
  const numbersIn = (text) => {
    try {
      const value = JSON.parse(text.replace(/-?\binf(inity)?\b/gi, (found) => (found.startsWith("-") ? "-1e999" : "1e999")).replace(/\bnan\b/gi, "null"));
      return [value].flat(Infinity).map((one) => (one === null ? NaN : one));
    } catch { return null; }
  };
  /** Columns whose name stands before their value on a phone. */
  const PREFIXED = new Set(["ratio", "ulps", "returned", "want"]);
  /** An answer in the rows: numbers with nine digits, which tell float32 numbers apart. */
  const shortAnswer = (text) => {
    const numbers = text ? numbersIn(text) : null;
    if (!numbers) return text;
    const shown = numbers.slice(0, 6).map((one) => (Number.isFinite(one) ? String(Number(one.toPrecision(9))) : Number.isNaN(one) ? "nan" : one > 0 ? "inf" : "-inf"));
    return text.startsWith("[") ? `[${shown.join(", ")}${numbers.length > 6 ? ", …" : ""}]` : shown[0];
  };
  const returnedText = (i) => shortAnswer(detailAt("got", i)) || valueAt("exception", i);
  const gridRow = (i, k) => {
    const cell = (name, ...children) => make("div", { role: "gridcell", class: name, "data-name": PREFIXED.has(name) ? translate(name) : null }, ...children);
    const status = valueAt("status", i), expected = valueAt("expected", i);
    const why = valueAt("known", i) || (valueAt("conversion", i) ? "" : valueAt("convention", i)) || valueAt("explanation", i) || valueAt("exception", i);
    return make("div", { role: "row", class: k === active ? "row current" : "row", id: `row-${k}`, "data-place": k, "aria-rowindex": k + 2, "aria-selected": String(k === active) },
      cell("status", statusMark(status), translateValue("status", status), expected === "ok" ? null : make("small", { class: `badge ${expected}` }, translateValue("expected", expected))),
      cell("function", valueAt("function", i)), cell("case", valueAt("case", i)), cell("dtype", valueAt("dtype", i)), cell("reduction", valueAt("reduction", i)),
      cell("quantity", translateValue("quantity", valueAt("quantity", i))),
      cell("returned", detail ? returnedText(i) : "…"), cell("want", detail ? shortAnswer(detailAt("want", i)) : "…"), cell("ratio", formatNumber(valueAt("ratio", i))), cell("ulps", formatNumber(valueAt("ulps", i))), cell("why", why));
  };
  const problemOf = (i) => [valueAt("dtype", i), valueAt("reduction", i), valueAt("quantity", i)].join(",");
  const open = (i) => navigate({ case: valueAt("case", i), at: problemOf(i) });

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
    announce("");
    announce(translate(done ? "copied" : "not_copied"));
    return done;
  };
  const copyable = (text, name) => {
    const handler = async () => { copy.textContent = (await copied(text)) ? translate("copied") : translate("copy"); };
    const copy = button(translate("copy"), handler, { class: "copy", "aria-label": `${translate("copy")}: ${name}` });
    return make("div", { class: "code" }, make("pre", { tabindex: 0, "aria-label": name, role: "region" }, make("code", {}, withBreaks(text))), copy);
  };
  /** The signed difference of largest magnitude between two texts of numbers; NaN if they cannot be compared. */
  const maxDifference = (a, b) => {
    const [left, right] = [numbersIn(a), numbersIn(b)];
    if (!left || !right || left.length !== right.length) return NaN;
    return left.reduce((most, one, i) => {
      const difference = one === right[i] ? 0 : one - right[i];
      return Math.abs(difference) > Math.abs(most) || Number.isNaN(most) ? difference : most;
    }, NaN);
  };
  const WIDE_FIELDS = new Set(["returned", "want_by_convention", "budgets", "explanation", "known", "warnings", "exception"]);
  const field = (name, ...children) => (children.flat().some((child) => child !== "" && child != null) ? make("div", { class: WIDE_FIELDS.has(name) ? "wide" : null }, make("dt", {}, translate(name)), make("dd", {}, ...children)) : null);
  /** All functions on one problem, side by side. */
  const answerTable = (members) => {
    const head = ["function", "status", "returned", "ratio", "ulps", "why"].map((key) => make("th", { scope: "col" }, translate(key)));
    const lines = members.map((i) => {
      const status = valueAt("status", i), expected = valueAt("expected", i);
      const cell = (key, ...children) => make("td", { "data-name": translate(key) }, ...children);
      return make("tr", {}, make("th", { scope: "row" }, breakable(valueAt("function", i)), make("small", {}, ` ${valueAt("version", i)}`)),
        cell("status", make("span", { class: `tag ${status}` }, statusMark(status), translateValue("status", status)), expected === "ok" ? null : make("small", { class: `badge ${expected}` }, translateValue("expected", expected))),
        cell("returned", make("code", {}, unbroken(returnedText(i)))), cell("ratio", formatNumber(valueAt("ratio", i))), cell("ulps", formatNumber(valueAt("ulps", i))),
        cell("why", withLinks(valueAt("known", i) || valueAt("convention", i) || (status === "agrees" ? "" : valueAt("explanation", i)))));
    });
    return make("table", { class: "groups side-by-side" }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, lines));
  };
  const answer = (i) => {
    const one = (name) => detailAt(name, i);
    const status = valueAt("status", i), expected = valueAt("expected", i), byConvention = one("want_by_convention");
    const returned = one("got");
    const reference = byConvention || one("want");
    const semantic = byConvention ? maxDifference(byConvention, one("want")) : returned && one("want") ? 0 : NaN;
    const name = `${valueAt("function", i)} ${valueAt("version", i)}`;
    return make("article", { class: `answer ${status}` },
      make("h4", {}, statusMark(status), make("span", {}, withBreaks(name)), make("small", {}, translateValue("status", status), expected === "ok" ? "" : `, ${translateValue("expected", expected)}`)),
      make("dl", {},
        field("returned", returned ? make("code", {}, returned) : ""), field("exception", valueAt("exception", i)),
        field("want_by_convention", byConvention ? make("code", {}, byConvention) : ""),
        field("ratio", formatNumber(valueAt("ratio", i))), field("error", formatNumber(valueAt("error", i))), field("budget", formatNumber(valueAt("budget", i))), field("ulps", formatNumber(valueAt("ulps", i))), field("where", valueAt("where", i)), field("shape", valueAt("shape", i)),
        field("difference", returned && reference && !Number.isNaN(semantic) ? `${translate(valueAt("conversion", i) ? "semantic_converted" : "semantic")} ${formatNumber(semantic) || "nan"}; ${translate("numeric")} ${formatNumber(maxDifference(returned, reference)) || "nan"}` : ""),
        field("convention", valueAt("convention", i) ? make("code", {}, unbroken(valueAt("convention", i))) : ""), field("explanation", withLinks(valueAt("explanation", i))), field("known", withLinks(valueAt("known", i))),
        field("bridge", valueAt("bridge", i)), field("conversion", valueAt("conversion", i)), field("warnings", valueAt("warnings", i)), field("result_dtype", valueAt("result_dtype", i)), field("reason_code", valueAt("reason_code", i)), field("candidate", valueAt("candidate", i) ? make("code", {}, valueAt("candidate", i)) : ""), field("environment", valueAt("environment", i)), field("backend", valueAt("backend", i)), field("mode", valueAt("mode", i)), field("device", valueAt("device", i)),
        field("budgets", one("budgets") ? make("code", {}, one("budgets")) : "")),
      one("call") ? make("div", {}, make("h5", {}, translate("call")), copyable(one("call"), `${translate("call")} ${name}`)) : null);
  };
  /** An explanation as `conformance explain` prints it. */
  const explanation = (key, blocks) => {
    const parts = [];
    for (const [kind, text, depth] of blocks) {
      if (kind === "heading") { if (depth > 1) parts.push(make("h4", {}, text)); }
      else if (kind === "code") parts.push(make("pre", {}, make("code", {}, text)));
      else parts.push(make("p", { class: kind === "formula" ? `formula depth-${Math.min(depth, 4)}` : null }, withLinks(text)));
    }
    const [dtype, reduction, quantity] = key.split(",").slice(-3);
    return make("details", { class: "explanation", open: true },
      make("summary", {}, make("b", {}, translate("explained", { problem: translate("same_problem", { dtype, reduction, quantity: translateValue("quantity", quantity) }) }))), make("div", { lang: "en" }, parts));
  };
  /** Problems of other cases on which what rows have in common is explained, each as a row of it. */
  const explainedElsewhere = (own, explained) => {
    const causeOf = (i) => ["function", "status", "reason_code", "convention", "known"].map((name) => valueAt(name, i)).join("\n");
    const found = new Map(own.filter((i) => valueAt("status", i) !== "agrees").map((i) => [causeOf(i), -1]));
    for (let i = 0; i < rows; i++) {
      const functions = explained[`${valueAt("case", i)},${problemOf(i)}`]?.[0] ?? [];
      if (functions.includes(valueAt("function", i)) && found.has(causeOf(i))) found.set(causeOf(i), i);
    }
    return [...found.values()].filter((i) => i >= 0 && valueAt("case", i) !== valueAt("case", own[0]));
  };
  const renderCase = async () => {
    const section = byId("opened"), id = state.case, requested = state.at;
    const number = columns.case.values.indexOf(id);
    const back = button(`← ${translate("back")}`, () => navigate({ case: undefined, at: undefined }), { class: "back" });
    if (number < 0) { section.replaceChildren(back, make("h2", {}, withBreaks(id)), make("p", { class: "nothing" }, translate("no_case"))); document.body.dataset.ready = "case"; return; }
    section.replaceChildren(back, make("h2", {}, withBreaks(id)), make("p", {}, translate("loading")));
    section.focus({ preventScroll: true });
    const [texts, { explanations: explained, explained_rows: [explainedRows, differing] }] = [await loadDetail(), await loadSupplement()];
    if (state.case !== id || state.at !== requested) return;
    const own = [];
    for (let i = 0; i < rows; i++) if (columns.case.codes[i] === number) own.push(i);
    const problems = new Map();
    for (const i of own) {
      if (!problems.has(problemOf(i))) problems.set(problemOf(i), []);
      problems.get(problemOf(i)).push(i);
    }
    const selected = problems.has(requested) ? requested : problems.keys().next().value;
    const ordered = [...problems].sort(([a], [b]) => (b === selected) - (a === selected));
    const parts = ordered.map(([key, members]) => {
      const [dtype, reduction, quantity] = key.split(",");
      const counts = countsOf(members);
      const fill = (element) => {
        if (element.childElementCount > 1) return;
        const wants = [...new Set(members.map((i) => detailAt("want", i)))].filter(Boolean);
        element.append(make("h3", {}, translate("exact")), ...wants.map((want) => copyable(want, translate("exact"))));
        if (!wants.length) element.append(make("p", {}, translate("none")));
        const order = members.slice().sort((a, b) => WORST.indexOf(valueAt("status", a)) - WORST.indexOf(valueAt("status", b)) || a - b);
        element.append(make("h3", {}, translate("functions_heading")), answerTable(order), make("h3", {}, translate("details")), make("div", { class: "answers" }, order.map(answer)));
      };
      const element = make("details", { open: key === selected, on: { toggle: (event) => event.target.open && fill(event.target) } },
        make("summary", {}, make("span", { class: "tags" }, make("b", {}, translate("same_problem", { dtype, reduction, quantity: translateValue("quantity", quantity) })),
          WORST.filter((status) => counts.get(status)).map((status) => make("span", { class: "tag" }, statusMark(status), `${translateValue("status", status)} ${counts.get(status)}`)))));
      if (key === selected) fill(element);
      return element;
    });
    const explanations = Object.keys(explained).filter((key) => key.startsWith(`${id},`) && key.split(",").length === id.split(",").length + 3);
    const elsewhere = explainedElsewhere(own, explained);
    const published = run.published.filter((number) => number.case === id).map((number) =>
      make("li", {}, make("b", {}, number.value), ": ", translate(number.holds === "True" ? "holds" : "fails", { exact: number.exact, dtype: number.dtype ?? "float64" }), ". ", withLinks(number.source),
        number.explanations?.length ? make("ul", { lang: "en" }, number.explanations.map((line) => make("li", {}, line))) : null));
    const [command, explain] = ["show", "explain"].map((verb) => `conformance ${verb} ${/^[\w./-]+$/.test(id) ? id : `'${id.replaceAll("'", "'\\''")}'`}`);
    section.replaceChildren(back, make("h2", {}, withBreaks(id)),
      make("h3", {}, translate("problem")), make("p", { class: "help" }, `${translate("digest")} ${distinct("digest", own).join(", ")}`),
      Object.hasOwn(texts.problems, id) ? copyable(texts.problems[id], translate("problem")) : "",
      make("p", {}, translate("print_problem")), copyable(command, command),
      make("p", {}, translate("print_explanation")), copyable(explain, explain),
      ...explanations.map((key) => explanation(key, explained[key][1])),
      elsewhere.length ? make("details", {}, make("summary", {}, translate("explained_elsewhere")),
        make("ul", {}, elsewhere.map((i) => make("li", {}, withBreaks(valueAt("function", i)), ": ", caseLink(valueAt("case", i), problemOf(i)))))) : "",
      differing ? make("p", { class: "help" }, translate("explained_rows", { explained: formatCount(explainedRows), all: formatCount(differing) })) : "",
      published.length ? make("div", {}, make("h3", {}, translate("published")), make("ul", {}, published)) : "", ...parts,
      make("p", { class: "help" }, translate("shortened")));
    scrollTo(0, 0);
    document.body.dataset.ready = "case";
  };

  // Rendering

  /** A view of the supplement, which is decoded when the view is first opened. */
  const deferred = (view) => () => {
    if (supplement) return view(supplement);
    loadSupplement().then(render).catch(failed);
    return [make("p", {}, translate("loading"))];
  };
  const views = { overview, matrix, causes, errors, known_view: knownView, table, changes: deferred(changes), sweep: deferred(sweep), history: deferred(releases) };
  const render = () => {
    filter();
    renderTexts();
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
    const parts = views[state.view ?? defaultView()]();
    const after = parts.find((part) => part?.placed);
    const scrolled = byId("view").querySelector(".scroll, .grid");
    const [top, left] = [scrolled?.scrollTop ?? 0, scrolled?.scrollLeft ?? 0];
    const focused = byId("view").contains(document.activeElement);
    byId("view").replaceChildren(...parts.filter((part) => part && !part.placed));
    if (focused && document.activeElement === document.body) byId("view").focus({ preventScroll: true });
    byId("view").querySelector(".scroll")?.scrollTo(left, top);
    after?.placed();
    if (closed) (byId("grid") ?? byId("view")).focus({ preventScroll: true });
    if (supplement || !SUPPLEMENT_VIEWS.includes(state.view)) document.body.dataset.ready = state.view ?? defaultView();
  };
  const failed = (error) => {
    byId("failure").hidden = false;
    byId("failure").textContent = translate("cannot", { error: error.message });
  };
  const start = async () => {
    read();
    prepare(await decoded("index"));
    read();
    byId("query").addEventListener("input", (event) => navigate({ q: event.target.value || undefined, view: state.view ?? "table" }, true));
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("clear").addEventListener("click", () => { byId("query").value = ""; showOnly({}, state.view); byId("query").focus(); });
    byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); });
    for (const element of document.querySelectorAll("[data-language]")) element.addEventListener("click", () => navigate({ lang: element.dataset.language }, true));
    addEventListener("hashchange", () => { read(); render(); });
    addEventListener("popstate", () => { read(); render(); });
    addEventListener("keydown", (event) => { if (event.key === "Escape" && state.case !== undefined) navigate({ case: undefined, at: undefined }); });
    byId("narrow").open = !matchMedia("(max-width: 700px)").matches && SELECTS.some((name) => state[name] !== undefined);
    matchMedia("(max-width: 700px)").addEventListener("change", render);
    render();
  };
  start().catch(failed);
})();
