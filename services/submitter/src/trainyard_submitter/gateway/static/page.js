// The run page. Everything that is shown is set as text: what runs are called is whatever somebody sent.

const KINDS = {
  completed: "good", failed: "bad", rejected: "bad", attempt_failed: "bad", attempt_lost: "bad",
  cancelled: "warn", attempt_cancelled: "warn", started: "busy", attempt_succeeded: "busy",
};
const STATES = ["accepted", "dispatched", "started", "attempt_succeeded", "attempt_failed", "attempt_lost",
  "attempt_cancelled", "completed", "failed", "cancelled", "rejected"];
const MOST_ROWS = 200;
const MOST_WARNINGS = 10, WARNING_CHARS = 200;
const main = document.getElementById("main");
const live = document.getElementById("live");
const notice = document.getElementById("notice");
let view = null;

// --- making elements ---------------------------------------------------------------------------------------------------

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
const chip = (state) => el("span", { class: "chip", "data-kind": KINDS[state] ?? "calm" }, words(state));
const words = (text) => String(text ?? "").replaceAll("_", " ");
const link = (href, text) => el("a", { href, "data-link": true }, text);
const card = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), ...children);
const wide = (section) => { section.classList.add("wide"); return section; };

function table(headings, rows) {
  const cell = (tag, value, heading) => el(tag, { class: heading[1] ?? null, scope: tag === "th" ? "col" : null }, value);
  return el("table", {},
    el("thead", {}, el("tr", {}, ...headings.map((heading) => cell("th", heading[0], heading)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((value, i) => cell("td", value, headings[i]))))));
}

function number(value, digits = 4) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "-";
  return String(Number(value.toPrecision(digits)));
}
function duration(seconds) {
  if (typeof seconds !== "number") return "-";
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}
function when(text) {
  if (!text) return "-";
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  const today = at.toDateString() === new Date().toDateString();
  return el("time", { datetime: text, title: text }, today ? at.toLocaleTimeString() : at.toLocaleString());
}
const bytes = (n) => typeof n !== "number" ? "-" : n < 1e4 ? `${n} B` : n < 1e7 ? `${(n / 1e3).toFixed(0)} kB` : `${(n / 1e6).toFixed(1)} MB`;
const score = (row) => typeof row.value !== "number" ? "" :
  `${row.metric} ${number(row.value)}${typeof row.baseline === "number" ? ` (baseline ${number(row.baseline)})` : ""}`;
const progressText = (p) => [p.phase, typeof p.step === "number" ? number(p.step) + (typeof p.total === "number" ? `/${number(p.total)}` : "") : null,
  typeof p.eta_s === "number" ? `${Math.round(p.eta_s)} s left` : null].filter(Boolean).join(", ");

function bar(p) {
  const share = typeof p.step === "number" && p.total > 0 ? Math.min(1, p.step / p.total) : null;
  return el("progress", { max: 1, value: share, "aria-label": "progress" });
}

async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error?.message ?? `the page answers ${answer.status}`);
  return found;
}
function say(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

// Runs `act` soon, once for many calls, and never twice at a time.
function calmly(act, pauseMs) {
  let waiting = false, running = false, again = false;
  const go = async () => {
    waiting = false;
    if (running) { again = true; return; }
    running = true;
    try { await act(); } catch (error) { if (!(error instanceof TypeError)) say(error.message); }
    running = false;
    if (again) { again = false; call(); }
  };
  const call = () => { if (!waiting) { waiting = true; setTimeout(go, pauseMs); } };
  return call;
}

// --- all runs ------------------------------------------------------------------------------------------------------------

function runsView() {
  const rows = new Map(), shown = new Map(), told = new Map(); // told: since the last question, whose answer may be older
  const asked = new URLSearchParams(location.search);
  const state = el("select", { "aria-label": "State" }, el("option", { value: "" }, "any state"),
    ...STATES.map((name) => el("option", { value: name }, words(name))));
  const trainer = el("select", { "aria-label": "Trainer" }, el("option", { value: "" }, "any trainer"));
  const name = el("input", { type: "search", placeholder: "part of a name", "aria-label": "Name", maxlength: 200 });
  state.value = asked.get("state") ?? "";
  name.value = asked.get("name") ?? "";
  let wanted = asked.get("trainer") ?? "";
  const count = el("span", { class: "faint", role: "status" });
  const body = el("tbody");
  const nothing = el("p", { class: "faint" }, "No run is shown here.");
  const headings = [["Run", "name"], ["State", ""], ["Outcome", "outcome"], ["Trainer", "roomy"], ["Queue", "roomy"], ["Accepted", ""]];
  main.replaceChildren(
    el("div", { class: "head" }, el("h1", {}, "Runs"), count, el("div", { class: "filters", role: "search" }, state, trainer, name)),
    el("div", { class: "card" },
      el("table", { id: "runs" }, el("thead", {}, el("tr", {}, ...headings.map((h) => el("th", { class: h[1], scope: "col" }, h[0])))), body), nothing));

  const fits = (row) => (!state.value || row.state === state.value) && (!wanted || row.trainer === wanted) &&
    (!name.value || String(row.run_name ?? "").toLowerCase().includes(name.value.toLowerCase()));

  function fill(tr, row) {
    const outcome = row.progress ? el("div", {}, progressText(row.progress), bar(row.progress)) :
      row.state === "completed" ? score(row) : row.message ? `${words(row.reason)}: ${row.message}` : words(row.reason);
    tr.children[1].replaceChildren(chip(row.state), ...(row.attempt > 1 ? [` attempt ${row.attempt}`] : []));
    tr.children[2].replaceChildren(outcome);
    tr.children[3].textContent = row.trainer ?? "-";
    tr.children[4].textContent = row.queue ?? "-";
  }
  function draw() {
    const trainers = [...new Set([...rows.values()].map((row) => row.trainer).filter(Boolean))].sort();
    if (trainers.join("\n") !== [...trainer.options].slice(1).map((option) => option.value).join("\n")) {
      trainer.replaceChildren(trainer.options[0], ...trainers.map((text) => el("option", { value: text }, text)));
      trainer.value = trainers.includes(wanted) ? wanted : "";
    }
    const fitting = [...rows.values()].filter(fits).sort((a, b) => a.accepted_at < b.accepted_at ? 1 : a.accepted_at > b.accepted_at ? -1 : 0);
    const drawn = fitting.slice(0, MOST_ROWS);
    const keep = new Set(drawn.map((row) => row.run_id));
    for (const [id, entry] of shown) if (!keep.has(id)) { entry.tr.remove(); shown.delete(id); }
    drawn.forEach((row, place) => {
      let entry = shown.get(row.run_id);
      if (!entry) {
        const tr = el("tr", { "data-run": row.run_id },
          el("td", { class: "name" }, link(`/runs/${row.run_id}`, row.run_name || row.run_id.slice(0, 8))),
          el("td"), el("td", { class: "outcome" }), el("td", { class: "roomy" }), el("td", { class: "roomy" }), el("td", {}, when(row.accepted_at)));
        entry = { tr, row: null };
        shown.set(row.run_id, entry);
      }
      if (entry.row !== row) { fill(entry.tr, row); entry.row = row; }
      if (body.children[place] !== entry.tr) body.insertBefore(entry.tr, body.children[place] ?? null);
    });
    nothing.hidden = drawn.length > 0;
    count.textContent = drawn.length < fitting.length ? `the newest ${drawn.length} of ${fitting.length}` : `${fitting.length} shown`;
  }
  let planned = false;
  const drawSoon = () => { if (!planned) { planned = true; requestAnimationFrame(() => { planned = false; draw(); }); } };
  function filtered() {
    const query = new URLSearchParams();
    for (const [key, value] of [["state", state.value], ["trainer", wanted], ["name", name.value]]) if (value) query.set(key, value);
    history.replaceState(null, "", query.size ? `/?${query}` : "/");
    draw();
  }
  state.addEventListener("change", filtered);
  trainer.addEventListener("change", () => { wanted = trainer.value; filtered(); });
  name.addEventListener("input", filtered);
  const self = {
    title: "Runs",
    refresh: calmly(async () => {
      told.clear();
      const found = await ask("/api/runs?limit=1000");
      rows.clear();
      for (const row of [...found.runs, ...told.values()]) rows.set(row.run_id, row);
      say(found.log === "ok" ? "" : `Kafka is not heard, so what is shown may be old: ${found.log}`);
      if (found.log !== "ok") setTimeout(() => { if (view === self) self.refresh(); }, 2000);
      draw();
    }, 0),
    run(row) { rows.set(row.run_id, row); told.set(row.run_id, row); drawSoon(); },
    fleet() {},
  };
  return self;
}

// --- one run ---------------------------------------------------------------------------------------------------------------

function runView(id) {
  const head = el("div", { class: "head" }, el("h1", {}, id.slice(0, 8)));
  const why = el("p", { class: "why", role: "status", hidden: true });
  const now = el("div", { id: "progress" });
  const cards = el("div", { class: "cards" });
  const log = el("pre", { class: "log", id: "log", tabindex: 0, "aria-label": "Console" });
  const logNote = el("p", { class: "faint" });
  const request = el("pre");
  const tail = el("div", { class: "cards" }, wide(card("Console, its last lines", logNote, log)),
    wide(el("section", { class: "card" }, el("details", {}, el("summary", {}, "The request"), request))));
  cards.id = "run";
  main.replaceChildren(head, why, now, cards, el("p"), tail);
  let ended = false;

  function draw(run) {
    ended = Boolean(run.ended_at);
    document.title = `${run.run_name ?? id.slice(0, 8)} - Trainyard`;
    head.replaceChildren(el("h1", {}, run.run_name ?? id.slice(0, 8)), chip(run.state),
      el("span", { class: "faint" }, [run.trainer, run.project].filter(Boolean).join(" · ")));
    why.hidden = !run.why;
    why.textContent = run.why;
    why.dataset.kind = KINDS[run.state] ?? "calm";
    showProgress(run.progress);
    cards.replaceChildren(...[outcome(run), warnings(run), facts(run), timeline(run), leaderboard(run), importance(run), artifacts(run), events(run)].filter(Boolean));
    request.textContent = JSON.stringify(run.request, null, 2);
  }
  function showProgress(p) {
    now.replaceChildren(...(p ? [wide(card("Now", el("p", {}, progressText(p)), bar(p),
      el("p", { class: "faint" }, Object.entries(p.metrics ?? {}).map(([key, value]) => `${key} ${number(value)}`).join(", "))))] : []));
  }
  const refreshLog = calmly(async () => {
    const found = await ask(`/api/runs/${id}/log?lines=500`);
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.textContent = found.lines.join("\n");
    logNote.textContent = found.why_not ? `The console is not there: ${found.why_not}.` : found.lines.length ? "" : "Nothing was written yet.";
    logNote.hidden = !logNote.textContent;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }, 700);
  const refresh = calmly(async () => { draw(await ask(`/api/runs/${id}`)); say(""); refreshLog(); }, 150);
  return {
    title: "Run", refresh,
    run(row) {
      if (row.run_id !== id) return;
      if (row.progress) { showProgress(row.progress); refreshLog(); }
      refresh();
    },
    fleet() { if (!ended) refresh(); },
  };
}

function outcome(run) {
  const results = run.results ?? {}, metrics = results.metrics ?? {}, before = results.baseline_metrics ?? {};
  if (typeof run.value !== "number") return null;
  const kind = results.baseline_kind ? ` (${words(results.baseline_kind)})` : "";
  return card("Outcome on data held out from training",
    el("div", { class: "big", id: "value", "data-value": String(run.value) }, number(run.value)),
    el("p", { class: "faint" }, `${run.metric}${typeof run.baseline === "number" ? `; the baseline${kind} reaches ${number(run.baseline)}` : ""}`),
    table([["Metric", ""], ["Model", "num"], ["Baseline", "num"]],
      Object.keys(metrics).sort().map((name) => [name, number(metrics[name]), number(before[name])])));
}
function warnings(run) {
  const found = Array.isArray(run.results?.warnings) ? run.results.warnings.filter((text) => typeof text === "string") : [];
  if (!found.length) return null;
  const line = (text) => el("li", { title: text }, text.length > WARNING_CHARS ? `${text.slice(0, WARNING_CHARS - 1)}…` : text);
  const left = found.length - MOST_WARNINGS;
  const section = card("Warnings", el("ul", {}, ...found.slice(0, MOST_WARNINGS).map(line)),
    left > 0 ? el("p", { class: "faint" }, `and ${left} more: trainyard runs show ${run.run_id.slice(0, 8)} --json`) : null);
  section.id = "warnings";
  return wide(section);
}
function facts(run) {
  const pairs = [["Run", run.run_id], ["Attempt", run.attempt || "-"], ["Queue", run.queue ?? "-"], ["Worker", run.worker ?? "-"],
    ["ClearML task", run.task_id ?? "-"], ["Priority", run.priority], ["Accepted", when(run.accepted_at)], ["Started", when(run.started_at)],
    ["Ended", when(run.ended_at)], ["Best model", run.results?.estimator ?? "-"], ["Rows × columns", run.results?.n_rows ? `${run.results.n_rows} × ${run.results.n_columns}` : "-"]];
  return card("Facts", el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value instanceof Node ? value : String(value))])));
}
function timeline(run) {
  const phases = run.timeline ?? [];
  if (!phases.length) return null;
  const strip = el("div", { class: "bar", "aria-hidden": "true" }, ...phases.map((phase) => {
    const part = el("span", { "data-kind": phase.phase, title: phase.phase });
    part.style.flexGrow = String(Math.max(phase.seconds ?? 1, 0.02));
    return part;
  }));
  const rows = phases.map((phase) => [phase.attempt > 1 ? `${phase.phase} (attempt ${phase.attempt})` : phase.phase, phase.where ?? "-", when(phase.from),
    phase.seconds === null ? "until now" : duration(phase.seconds)]);
  const inner = Object.entries(run.results?.seconds ?? {}).filter(([, value]) => typeof value === "number");
  const section = card("Timeline", strip, table([["Phase", ""], ["Where", ""], ["From", ""], ["Took", "num"]], rows),
    inner.length ? el("p", { class: "faint" }, "Within the training: " + inner.map(([name, value]) => `${words(name)} ${duration(value)}`).join(", ")) : null);
  section.id = "timeline";
  return wide(section);
}
function leaderboard(run) {
  const models = run.results?.leaderboard;
  if (!Array.isArray(models) || !models.length) return null;
  const section = card("Leaderboard", table([["Model", ""], ["Validation", "num"], ["Metric", "roomy"], ["Fit", "num"]],
    models.map((m) => [String(m.model ?? m.learner ?? m.estimator ?? "-"), number(m.validation_value ?? m.value ?? m.score), String(m.metric ?? ""), duration(m.fit_seconds)])));
  section.id = "leaderboard";
  return section;
}
function importance(run) {
  const found = Object.entries(run.results?.feature_importance ?? {}).filter(([, v]) => typeof v === "number").sort((a, b) => b[1] - a[1]).slice(0, 10);
  if (!found.length) return null;
  const most = Math.max(...found.map(([, value]) => value), 1e-12);
  return card("What the model relies on", table([["Column", ""], ["", "outcome"], ["Importance", "num"]],
    found.map(([name, value]) => [name, el("progress", { max: 1, value: Math.max(0, value / most), "aria-label": name }), number(value)])));
}
function artifacts(run) {
  if (!run.artifacts?.length) return null;
  const file = (a) => /^https?:\/\//.test(a.uri ?? "") ? el("a", { href: a.uri, rel: "noopener noreferrer", target: "_blank" }, a.name ?? a.uri) : String(a.name ?? a.uri);
  return card("Files", table([["Name", ""], ["Size", "num"], ["SHA-256", "roomy"]],
    run.artifacts.map((a) => [file(a), bytes(a.bytes), el("span", { title: a.sha256 ?? "" }, String(a.sha256 ?? "-").slice(0, 12))])));
}
function events(run) {
  const section = card("Events", table([["Time", ""], ["What", ""]], (run.events ?? []).map((event) => [when(event.time), event.text])));
  section.id = "events";
  return wide(section);
}

// --- queues and workers ------------------------------------------------------------------------------------------------------

function queuesView() {
  const queues = el("div", { id: "queues" }), workers = el("div", { id: "workers" });
  main.replaceChildren(el("div", { class: "head" }, el("h1", {}, "Queues and workers")),
    el("div", { class: "cards" }, wide(card("Queues", queues)), wide(card("Workers", workers))));
  const known = (value) => value === null ? "?" : String(value);
  const refresh = calmly(async () => {
    const [q, w] = await Promise.all([ask("/api/queues"), ask("/api/workers")]);
    say(q.clearml === "ok" && w.clearml === "ok" ? "" : `ClearML does not answer, so only the log's part is shown: ${q.clearml}`);
    queues.replaceChildren(
      q.queues.length ? table([["Queue", "name"], ["Tasks in it", "num"], ["Workers", "num"], ["Runs waiting", "num"], ["Runs training", "num"]],
        q.queues.map((queue) => [queue.name, known(queue.entries), known(queue.workers), String(queue.waiting), String(queue.training)])) : el("p", { class: "faint" }, "No queue is known."),
      el("p", { class: "faint" }, `${q.not_dispatched} accepted runs wait outside of the queues for their turn.`));
    workers.replaceChildren(w.workers.length ? table([["Worker", "name"], ["Queues", ""], ["Trains", ""], ["Last heard of", "roomy"]],
      w.workers.map((worker) => [worker.name, worker.queues.join(", ") || "-",
        worker.run_id ? link(`/runs/${worker.run_id}`, worker.run_name || worker.run_id.slice(0, 8)) : worker.task_id ? `task ${worker.task_id}` : "idle", when(worker.last_seen_at)]))
      : el("p", { class: "faint" }, w.clearml === "ok" ? "No worker is registered in ClearML." : "Not known: ClearML does not answer."));
  }, 300);
  return { title: "Queues and workers", refresh, run: refresh, fleet: refresh };
}

// --- where we are --------------------------------------------------------------------------------------------------------------

function show() {
  const path = location.pathname, run = path.match(/^\/runs\/([^/]+)$/);
  say("");
  view = run ? runView(run[1]) : path === "/queues" ? queuesView() : runsView();
  document.title = `${view.title} - Trainyard`;
  for (const place of document.querySelectorAll("nav a")) {
    if (place.getAttribute("href") === (path === "/queues" ? path : "/")) place.setAttribute("aria-current", "page");
    else place.removeAttribute("aria-current");
  }
  view.refresh();
}
document.addEventListener("click", (event) => {
  const place = event.target.closest?.("a[data-link]");
  if (!place || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", place.getAttribute("href"));
  show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
addEventListener("popstate", show);

function follow() {
  const source = new EventSource("/api/events");
  source.addEventListener("hello", () => { live.dataset.state = "live"; live.textContent = "live"; view.refresh(); });
  source.addEventListener("run", (event) => view.run(JSON.parse(event.data)));
  source.addEventListener("fleet", () => view.fleet());
  source.addEventListener("again", () => view.refresh());
  source.addEventListener("error", () => {
    live.dataset.state = "lost";
    live.textContent = "not connected, trying again";
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
}
show();
follow();
