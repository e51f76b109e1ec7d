"use strict";
// Texts from stores are only ever set as textContent: a key can never become markup.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const EVERY_MS = 1000;
let before = null;

function bytes(value) {
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

function seconds(value) {
  if (value < 1) return `${(value * 1000).toFixed(value < 0.01 ? 2 : 0)} ms`;
  if (value < 120) return `${value.toFixed(1)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

function visible(text) {
  // Invisible and direction-changing characters could make one key look like another.
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function cell(content, kind) {
  const td = document.createElement("td");
  if (kind) td.className = kind;
  if (content instanceof Node) td.append(content); else td.textContent = visible(String(content));
  return td;
}

function rows(id, list, make, none) {
  const body = document.getElementById(id);
  const made = list.map((item) => { const tr = document.createElement("tr"); tr.append(...make(item)); return tr; });
  if (!made.length) {
    const tr = document.createElement("tr");
    tr.append(cell(none, "weak"));
    made.push(tr);
  }
  body.replaceChildren(...made);
}

function put(id, text) { document.getElementById(id).textContent = text; }

function bar(part, whole) {
  const meter = document.createElement("meter");
  meter.max = whole || 1;
  meter.value = part;
  return meter;
}

function showTotals(stats, now) {
  const c = stats.counters;
  const reads = c.hits + c.misses + c.partial + c.stale + c.bypass;
  put("hit-ratio", reads ? `${(100 * (c.hits + c.stale) / reads).toFixed(1)} %` : "–");
  put("saved-bytes", bytes(c.bytes_from_cache));
  put("saved-requests", (c.hits + c.stale).toLocaleString("en"));
  put("requests", c.requests.toLocaleString("en"));
  put("uptime", seconds(stats.uptime_s));
  put("data-url", stats.data_url);
  if (before) {
    const elapsed = (now - before.at) / 1000;
    put("rate", `${bytes(Math.max(0, c.bytes_served - before.served) / elapsed)}/s`);
    put("store-rate", `${bytes(Math.max(0, c.store_bytes - before.store) / elapsed)}/s`);
  }
  before = { at: now, served: c.bytes_served, store: c.store_bytes };
}

function waiting(staged) {
  if (!staged) return "";
  const age = staged.oldest_s ? ` for ${seconds(Math.max(0, Date.now() / 1000 - staged.oldest_s))}` : "";
  const writes = staged.writes ? `; ${staged.writes} writes wait${age}` : "";
  return writes + (staged.conflicts.length ? `; ${staged.conflicts.length} conflicts` : "");
}

function health(mount) {
  const scratch = mount.scratch ? `; scratch ${bytes(mount.scratch.used_bytes)} of ${bytes(mount.scratch.capacity_bytes)}` : "";
  const waits = waiting(mount.staged) + scratch;
  if (mount.healthy) return cell(`healthy${waits}`, waits ? "wrap" : "good");
  const age = Math.max(0, Math.round(Date.now() / 1000 - mount.checked_s));
  const seen = mount.checked_s ? ` (${age < 120 ? `${age} s` : seconds(age)} ago)` : "";
  return cell((mount.error || "failing") + seen + waits, "bad wrap");
}

function show(stats, jobs) {
  showTotals(stats, performance.now());
  put("notes", stats.notes.join(" · "));
  rows("mounts", stats.mounts, (m) => [
    cell(m.path), cell(m.store, "wrap"), health(m),
    cell(bytes(m.bytes_served), "n"), cell(bytes(m.store_bytes), "n"), cell(m.store_requests, "n"),
    cell(m.store_requests ? seconds(m.store_seconds / m.store_requests) : "–", "n"),
  ], "none yet: headrace mount add /name s3://bucket --endpoint …");
  rows("tiers", stats.tiers, (t) => [
    cell(t.name), cell(bar(t.used_bytes, t.capacity_bytes)), cell(bytes(t.used_bytes), "n"), cell(bytes(t.capacity_bytes), "n"),
    cell(t.segments, "n"), cell(t.healthy ? "in service" : t.note || "out of service", t.healthy ? "good" : "bad wrap"),
  ], "none");
  rows("slowest", stats.slowest.slice(0, 10), (r) => [
    cell(r.path, "wrap"), cell(seconds(r.seconds), "n"), cell(bytes(r.bytes), "n"), cell(r.served),
    cell(new Date(r.at_s * 1000).toLocaleTimeString()),
  ], "none yet");
  rows("jobs", jobs.slice(0, 20), (j) => [
    cell(j.id), cell(j.target, "wrap"), cell(j.state, j.state === "failed" ? "bad" : ""),
    cell(`${j.progress.objects_done} of ${j.progress.objects_known}${j.progress.all_known ? "" : "+"}`, "n"),
    cell(bytes(j.progress.bytes_done), "n"), cell(j.error, "wrap"),
  ], "none yet: headrace load /path");
  rows("workers", stats.workers, (w) => [
    cell(w.index), cell(w.pid, "n"), cell(w.alive ? "serving" : "starting", w.alive ? "good" : "bad"), cell(w.restarts, "n"),
    cell(bytes(w.rss_bytes), "n"), cell(w.counters.requests, "n"), cell(w.counters.connections, "n"),
  ], "none");
}

async function ask(path) {
  const answer = await fetch(path, { credentials: "same-origin", cache: "no-store" });
  if (answer.status === 401) throw new Error("logged out: open the link that `headrace status` prints");
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.json();
}

async function tick() {
  if (!document.hidden) {
    const state = document.getElementById("state");
    try {
      const [stats, jobs] = await Promise.all([ask("/api/v1/stats"), ask("/api/v1/jobs")]);
      show(stats, jobs);
      state.textContent = "live";
      state.className = "good";
    } catch (error) {
      state.textContent = error instanceof TypeError ? "the server does not answer" : error.message;
      state.className = "bad";
      before = null;
    }
  }
  setTimeout(tick, EVERY_MS);
}

tick();
