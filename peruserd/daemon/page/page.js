// Asks for /status.json every two seconds, and shows it.

const EVERY_MS = 2000;
const PATIENCE_MS = 8000;
const KINDS = /*KINDS*/{};

const ROLES = {
  waiting: "waiting: the cluster is not known yet",
  active: "active",
  standby: "standing by: another instance is active beside this node",
  drained: "drained: other instances serve its users, as an operator has ordered",
  stopping: "stopping: it was told to stop",
};

const FINDINGS = {
  missing: "the user is there, and the database is not",
  not_named: "a copy does not name the user as it should",
  public: "a copy lets everybody in",
  copies_differ: "the security objects of the copies differ",
  still_named: "the user is deleted, and a copy still names the user",
  held: "the user came back under a freed name",
  unreadable: "a security object cannot be read",
  options: "the database was made with other options",
  template: "a document or an option of a template is missing or old",
  unpadded: "there is a database under the name that couch_peruser gives",
  no_user: "there never was a document of this user",
  copy_behind: "a copy of the authentication database is behind",
  copies_silent: "a copy could not be read",
  unconfirmed: "too few copies of the user document could be read",
};

const PAUSES = {
  operator: "an operator has paused them",
  breaker: "too many fell due at once, and an operator has to look",
  unreadable: "it cannot be read whether they are paused",
  exposed: "others could have written to the journal",
};

// What needs somebody's attention, the worst first: its level, its words, and what to do.
function troubles(status) {
  const found = [];
  const add = (level, what, advice) => found.push({ level, what, advice });
  if (!status.healthy.ok) add("bad", `Not healthy: ${status.healthy.why}.`, "look into the log; systemd starts the instance again");
  if (status.authentication.trouble !== null) add("bad", `The server does not let this instance in: ${status.authentication.trouble}.`, null);
  for (const each of status.unreadable) add("bad", `Range ${each} cannot be read: no node that hosts it is connected.`, "start one of its nodes");
  for (const each of status.listeners) {
    if (each.state === "failed") add("bad", `The listener of ${each.copy} has given up.`, "the log says what must change");
    else if (each.failures) add("warn", `The listener of ${each.copy} has ended unplanned, ${plural(each.failures, "time")} in a row (${each.why || "no reason known"}).`,
      "look into the log; the listener is started again by itself");
  }
  const held = status.listeners.filter((each) => each.on_hold !== null);
  const ours = held.find((each) => each.hold_kind === "state");
  if (ours) add("bad", `The state of this instance cannot be written, so nobody is served: ${ours.on_hold}.`,
    "make room in the state directory, or let peruserd write there; it goes on by itself then");
  else if (held.length) add("bad", `The cluster serves nobody: ${held[0].on_hold}.`, "mend the cluster; peruserd goes on by itself then");
  if (!status.ready.ok && found.length === 0) add("warn", `Not ready: ${status.ready.why}.`, null);
  for (const each of status.failing) add("warn", `The thread ${each} of this instance fails, and is tried again.`,
    "look into the log; if that lasts for minutes, the instance starts anew by itself");
  if (status.refused) add("warn", `The last reload was refused, and the configuration before is in force: ${words(status.refused)}.`,
    "correct the configuration; peruserd reload");
  if (status.away.length) add("warn", `Nodes of the cluster are not connected: ${status.away.map(words).join(", ")}.`,
    "start CouchDB there; remove a node that is gone for good from the cluster");
  if (!status.leases_readable && status.nodes !== null && status.instances.length > 1)
    add("warn", "Leases cannot be read, so it is not known which instances live.", null);
  if (status.deletions.paused) add("warn", `Deletions are paused: ${PAUSES[status.deletions.paused_why] || status.deletions.paused_why}.`,
    "peruserd deletions list; peruserd deletions resume");
  const permanent = status.listeners.reduce((sum, each) => sum + (each.permanent || 0), 0);
  if (permanent) add("warn", `${plural(permanent, "user")} in quarantine until somebody acts.`, "peruserd quarantine list");
  const beside = new Set(status.instances.filter((each) => each.status === "alive" || each.status === "not seen to grow yet").map((each) => each.node));
  const known = status.leases_readable && !status.omitted.instances;
  for (const each of (known && status.nodes || []).filter((node) => !beside.has(node)))
    add("warn", `No instance is alive beside ${words(each)}, which is connected. Others serve its users.`, "start peruserd there");
  for (const each of status.instances) {
    if (each.same_configuration === false && each.status === "alive")
      add("warn", `The instance beside ${each.node} has another configuration of databases or deletions.`, "compare their files");
  }
  if (status.couch_peruser) add("warn", "CouchDB's couch_peruser is on at this node, and writes to the same databases.",
    "set [couch_peruser] enable = false on every node");
  if (status.maintenance) add("warn", "The node is in maintenance mode. Its users are served all the same.", null);
  return [...found.filter((each) => each.level === "bad"), ...found.filter((each) => each.level !== "bad")];
}

function showNow(status) {
  const found = troubles(status);
  const level = { true: "good", false: "bad" };
  const tile = (kind, title, text) => make("div", { class: "tile " + kind }, make("strong", {}, mark(kind, title)), make("p", {}, text));
  put("checks", [status.healthy, status.ready, status.role, status.nodes, status.quarantine],
    tile(level[status.healthy.ok], status.healthy.ok ? "healthy" : "not healthy", status.healthy.why),
    tile(status.ready.ok ? "good" : "warn", status.ready.ok ? "ready" : "not ready", status.ready.why),
    tile(status.role === "active" ? "good" : "warn", "role", ROLES[status.role] || status.role),
    tile(status.nodes === null ? "warn" : "good", "cluster", status.nodes === null ? "not known yet" :
      `${plural(status.nodes.length, "node")} connected, ${plural(status.instances.filter((each) => each.status === "alive").length, "instance")} alive`));
  put("troubles", found, found.length ? found.map((each) => make("li", { class: each.level },
    mark(each.level, each.level === "bad" ? "trouble" : "look at this"), " ", make("span", { class: "what" }, each.what),
    each.advice === null ? null : make("span", { class: "soft" }, `What to do: ${each.advice}.`)))
    : make("li", { class: "good" }, mark("good", "nothing needs attention")));
  const said = `${status.healthy.ok ? "Healthy" : "Not healthy"}, ${status.ready.ok ? "ready" : "not ready"}, ` +
    `${found.length ? plural(found.length, "point") + " to look at" : "nothing needs attention"}.`;
  put("announce", said, said);
  put("where", [status.node], status.node === null ? "" : name(status.node));
  put("who", [status.version, status.incarnation, Math.floor(status.uptime / 10)],
    `Version ${status.version}, start ${status.incarnation}, for ${span(status.uptime)}.`);
  document.title = `${!status.healthy.ok ? "✕" : found.length ? "!" : "✓"} ${words(status.node || "peruserd")} · peruserd`;
}

function showRanges(status, numbers) {
  const drawn = [status.ranges, [...numbers]];
  put("ring", drawn, ...(status.ranges.length ? ring(status, numbers) : [make("p", {}, "No range is known yet.")]));
  const rows = status.ranges.map((each) => [
    make("code", {}, each.range),
    each.readable ? (each.adopted ? mark("warn", "adopted") : mark("good", "served")) : mark("bad", "nobody can read it"),
    each.followed_at.length ? each.followed_at.flatMap((node, at) => [at ? ", " : "",
      ...(node === status.node ? ["own copy"] : ["through ", name(node)])]) : "not followed",
    each.owners.length ? each.owners.flatMap((owner, at) => [at ? ", " : "", keyed(owner, numbers)]) : "nobody",
    each.hosts.flatMap((host, at) => [at ? ", " : "", name(host)]),
  ]);
  put("ranges-t", drawn, table(`Ranges of ${status.database}, with the instances that own their users`,
    [{ label: "Range" }, { label: "State" }, { label: "Here" }, { label: "Owners" }, { label: "Hosts" }], rows));
}

const STATES = { running: "good", starting: "warn", stopping: "warn", backoff: "bad", failed: "bad", stopped: "warn" };

function showListeners(status) {
  const rows = status.listeners.map((each) => {
    const behind = each.state === "running" && !each.caught_up;
    const state = each.on_hold !== null ? ["bad", "on hold"] : behind ? ["warn", "not caught up"] : [STATES[each.state] || "warn", each.state];
    return [
      [make("code", {}, each.range), " ", name(each.node)],
      [mark(...state), each.on_hold !== null ? `: ${each.on_hold}` : "", each.why ? ` (last end: ${each.why})` : ""],
      each.stage || "–",
      each.lag_seconds === null ? "–" : each.lag_seconds ? span(each.lag_seconds) : "none",
      each.lag_rows === null ? "–" : count(each.lag_rows),
      count(each.waiting), count(each.in_flight), count(each.quarantined), count(each.restarts),
      each.usage === null ? "–" : `${Math.round(each.usage.resident_bytes / 1048576)} MiB`,
    ];
  });
  // Figures that change with each answer and are not shown must not replace the table.
  const key = status.listeners.map(({ feed_age, usage, lag_seconds, checkpoint, shard_sequence, ...rest }) =>
    [rest, lag_seconds === null ? null : span(lag_seconds), usage && Math.round(usage.resident_bytes / 1048576)]);
  put("listeners-t", key, rows.length ? table("One process for each copy that is followed",
    [{ label: "Copy" }, { label: "State" }, { label: "Stage" }, { label: "Lag", number: true },
      { label: "Rows behind", number: true }, { label: "Waiting", number: true },
      { label: "In flight", number: true }, { label: "Quarantine", number: true }, { label: "Restarts", number: true },
      { label: "Memory", number: true }], rows) : make("p", {}, "This instance follows no copy now."));
}

function showLatency(status) {
  const { recent, course } = status.latency;
  const minutes = Math.max(1, Math.round(recent.seconds / 60));
  put("latency-now", recent.served ? [recent.served, recent.median, recent.p95] : [minutes], recent.served
    ? `In the last ${minutes} min ${plural(recent.served, "user")} served: half of them within ${seconds(recent.median)}, ` +
      `95 of 100 within ${seconds(recent.p95)}.`
    : `Nobody has signed up in the last ${minutes} min.`);
  const width = Math.max(240, document.getElementById("curve").clientWidth);
  put("curve", [course.map((each) => [each.at.toFixed(0), each.served]), Math.floor(status.time / 10), width], curve(status.latency, status.time, width));
  const rows = course.filter((each) => each.served).reverse().map((each) =>
    [moment(each.at), count(each.served), seconds(each.median), seconds(each.p95), seconds(each.p99)]);
  put("latency-t", course.map((each) => [each.at.toFixed(0), each.served]), rows.length ? table(
    "Users served in each half minute, the newest first", [{ label: "Until" }, { label: "Served", number: true },
      { label: "Median", number: true }, { label: "95 of 100", number: true }, { label: "99 of 100", number: true }], rows)
    : make("p", {}, "Nobody has signed up in the last half hour."));
}

function showQuarantine(status) {
  const rows = Object.entries(status.quarantine).map(([kind, users]) => [make("code", {}, kind), KINDS[kind] || "–", count(users)]);
  put("quarantine-t", status.quarantine, rows.length ? table("Users who could not be served, by the kind of failure",
    [{ label: "Kind" }, { label: "Meaning" }, { label: "Users", number: true }], rows) : make("p", {}, mark("good", "nobody is in quarantine")));
}

function showDeletions(status) {
  const given = status.deletions;
  const paused = given.paused === null ? "nothing is ever dropped by this configuration" : given.paused
    ? [mark("warn", "paused"), `: ${PAUSES[given.paused_why] || given.paused_why}`, given.paused_since === null ? "" : [", since ", moment(given.paused_since)]].flat()
    : mark("good", "not paused");
  put("deletions-t", [given, Math.floor(given.overdue / 10)], table("Databases of deleted users", [{ label: "What" }, { label: "Now" }], [
    ["Drops", paused], ["Wait to be dropped", count(given.waiting)], ["Oldest is due", given.overdue ? `for ${span(given.overdue)}` : "not yet"],
    ["Held, because the user came back", count(given.held)], ["Left to the journal, beyond the limit", count(given.beyond_bound)],
    ["Dropped since the start", count(given.dropped)],
  ]));
}

function showAudit(status) {
  const { last, running } = status.audit;
  const said = [
    last === null ? "No round of all listeners has ended yet." : ["The last round looked at ", plural(last.users, "user"), ", from ", moment(last.begun), " to ", moment(last.ended), ". "],
    running === null ? "" : [" A round goes on since ", moment(running.begun), ", with ", plural(running.users, "user"), " so far."],
  ].flat();
  put("audit-now", status.audit, make("span", {}, said));
  const found = [...new Set([...Object.keys(last ? last.findings : {}), ...Object.keys(running ? running.findings : {})])].sort();
  const rows = found.map((kind) => [make("code", {}, kind), FINDINGS[kind] || "–", count(last ? last.findings[kind] || 0 : null), count(running ? running.findings[kind] || 0 : null)]);
  put("audit-t", status.audit, rows.length ? table("Findings", [{ label: "Finding" }, { label: "Meaning" },
    { label: "Last round", number: true }, { label: "This round", number: true }], rows)
    : make("p", {}, last === null ? "Nothing was found so far." : mark("good", "nothing was found")));
}

function showInstances(status, numbers) {
  const rows = status.instances.map((each) => [
    [keyed(each.node, numbers), each.is_me ? " (this one)" : ""],
    each.status === "alive" ? mark("good", each.is_active ? "alive" : "alive, standing by") : mark("warn", each.status),
    ago(each.lease_age),
    each.same_configuration === null ? "not known" : each.same_configuration ? mark("good", "the same") : mark("warn", "another one"),
    each.maintenance ? mark("warn", "in maintenance") : "in service",
    each.version, each.address ? name(each.address) : "–",
  ]);
  put("instances-t", status.instances.map(({ lease_age, ...rest }) => [rest, ago(lease_age)]), table("Instances by their leases", [{ label: "Node" }, { label: "State" }, { label: "Sign of life" },
    { label: "Configuration" }, { label: "Node's mode" }, { label: "Version" }, { label: "HTTP" }], rows));
}

function showPlans(status) {
  put("plans-l", status.plans, status.plans.length ? status.plans.map((each) => make("li", {}, moment(each.at), ": ", each.says, " (", each.done, ")",
    make("ul", {}, each.reasons.map((reason) => make("li", {}, reason))))) : make("li", {}, "There was no plan yet."));
}

function showCounters(status) {
  const rows = [...Object.entries(status.counters), ...Object.entries(status.failures).map(([kind, number]) => [`failures: ${kind}`, number])];
  put("counters-t", rows, table("Events since the start, named as the metrics are", [{ label: "Event" }, { label: "Count", number: true }],
    rows.map(([event, number]) => [make("code", {}, event), count(number)])));
}

let latest = null;

function show(status) {
  latest = status;
  document.getElementById("live").hidden = false;
  const numbers = keys(status);
  showNow(status);
  showRanges(status, numbers);
  showListeners(status);
  showLatency(status);
  showQuarantine(status);
  showDeletions(status);
  showAudit(status);
  showInstances(status, numbers);
  showPlans(status);
  showCounters(status);
  put("fresh", [status.time], "As of ", moment(status.time), ".");
}

// When the last answer came, and when the first question without one was asked; in milliseconds.
let answered = null;
let missing = null;
let paused = false;

function showMissing(why) {
  missing ??= Date.now();
  const since = moment(missing / 1000);
  put("gone", [missing, why, answered], "The instance has not answered since ", since, ` (${why}). `,
    answered === null ? "" : "What is below was seen before that.");
  document.title = "✕ no answer · peruserd";
  document.getElementById("main").classList.add("old");
}

async function ask() {
  const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`it answered ${answer.status}`);
  return answer.json();
}

async function round() {
  let status;
  try {
    status = await ask();
  } catch (error) {
    const why = { TimeoutError: "no answer in time", TypeError: "no connection", SyntaxError: "its answer is no JSON" };
    showMissing(why[error.name] || error.message);
    return;
  }
  answered = Date.now();
  missing = null;
  document.getElementById("main").classList.remove("old");
  put("gone", [], "");
  show(status);
}

async function follow() {
  try {
    // A page that nobody looks at asks nothing.
    if (!paused && !document.hidden) await round();
  } finally {
    setTimeout(follow, EVERY_MS);
  }
}

const button = document.getElementById("pause");
button.hidden = false;
button.addEventListener("click", () => {
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
  button.textContent = paused ? "Go on with updates" : "Pause updates";
});
window.addEventListener("resize", () => {
  if (latest !== null) showLatency(latest);
});
document.addEventListener("visibilitychange", () => {
  if (!paused && !document.hidden) round();
});
follow();
