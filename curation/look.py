"""What the browser is given with every page: the style, and the keys it watches. Constants: no text of data or people."""

# drawn by the style below: an icon given to st.Page is also fetched from fonts.gstatic.com, for the browser's tab
_ICONS = (
    "home", "database", "filter_alt", "rule", "gavel", "assignment", "rate_review", "handshake", "speed", "route",
    "play_circle",
)  # fmt: skip
STYLE = """<style>
.block-container {padding-top: 3rem; padding-bottom: 4rem; max-width: 1180px}
.er {line-height: 1.55; font-size: 1rem}
.er .text {white-space: pre-wrap; overflow-wrap: anywhere; max-width: 74ch}
.er .turn {margin: 0 0 .75rem 0; padding: .55rem .85rem; border-radius: 8px; max-width: 78ch}
.er .turn.user {background: color-mix(in srgb, currentColor 7%, transparent)}
.er .turn.assistant {border-left: 3px solid color-mix(in srgb, currentColor 22%, transparent); margin-left: 1.1rem}
.er .turn.system, .er .turn.other {border: 1px dashed color-mix(in srgb, currentColor 30%, transparent)}
.er .who {font-size: .74rem; letter-spacing: .04em; text-transform: uppercase; opacity: .62; margin-bottom: .15rem}
.er details.earlier > summary {cursor: pointer; opacity: .75; margin: 0 0 .6rem 0; font-size: .9rem}
.er .sides {display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; align-items: start}
.er .sides.one {grid-template-columns: 1fr}
.er .side {border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: 10px; padding: .7rem .95rem}
.er .side .name {font-weight: 650; font-size: 1.05rem; margin-bottom: .35rem}
.er .side .name small {font-weight: 400; opacity: .65; margin-left: .4rem}
.er .nothing {font-style: italic; opacity: .65}
.er ins {background: color-mix(in srgb, #3f9d5d 30%, transparent); text-decoration: none; border-radius: 3px}
.er del {background: color-mix(in srgb, #d2603f 30%, transparent); text-decoration: none; border-radius: 3px}
.er.table {overflow-x: auto; font-size: .9rem; margin-bottom: .5rem}
.er.table table {border-collapse: collapse; width: 100%}
.er.table :is(th, td) {text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; overflow-wrap: break-word;
  border-bottom: 1px solid color-mix(in srgb, currentColor 14%, transparent)}
.er.table th {font-weight: 400; opacity: .72}
.er.table td:first-child {font-weight: 600}
.er .reasons {margin: .2rem 0 0 0; padding-left: 1.1rem}
.er .quiet {opacity: .72; font-size: .92rem}
[data-testid="stLayoutWrapper"]:has(> .st-key-choices) {position: sticky; bottom: 0; z-index: 5}
.st-key-choices {padding: .6rem 0; row-gap: .5rem;
  background: light-dark(#fbfaf8, #181b1f); border-top: 1px solid light-dark(#ddd8cf, #373d44)}
.st-key-choices button, .st-key-actions button {min-height: 2.6rem}
.st-key-choices [class*="st-key-value-"] kbd, .st-key-choices [class*="st-key-why-"] kbd {display: none}
.st-key-guidelines-box :is(h1, h2, h3) {font-size: 1.15rem; padding: .3rem 0}
.st-key-note-area:not(:focus-within, :has(input:not(:placeholder-shown), [aria-pressed="true"], [aria-checked="true"])) {
  position: absolute; width: 1px; height: 1px; overflow: hidden; opacity: 0}
@media (max-width: 700px) {
  .er .sides {grid-template-columns: 1fr}
  .er .turn.assistant {margin-left: .4rem}
  .er.table :is(th, td) {padding-right: .5rem; min-width: 5.5rem}
  .st-key-choices button {min-height: 2.1rem; padding: .1rem .5rem}
  .st-key-choices {row-gap: .2rem}
  .st-key-choices [class*="st-key-back-"], .st-key-choices [class*="st-key-on-"] {display: none}
  [data-testid="stMain"] h1 {font-size: 1.5rem; padding-top: 0}
  .block-container {padding: 3.75rem .9rem 4rem}
}
[data-testid="stSidebarNavItems"] a::before {
  font: 1.1rem/1 "Material Symbols Rounded"; font-feature-settings: "liga"; opacity: .75; width: 1.1rem}
</style>"""
STYLE += (
    "<style>"
    + "".join(
        f'[data-testid="stSidebarNavItems"] li:nth-child({place}) a::before {{content: "{icon}"}}'
        for place, icon in enumerate(_ICONS, 1)
    )
    + "</style>"
)

# which shortcut a press is, as Streamlit takes it: in another alphabet, and of digits that want Shift, that of the key's place
_PRESSED = """
    const pressed = (event) => {
        const place = /^(?:Key|Digit)(.)$/.exec(event.code);
        return (/^[a-z0-9]$/i.test(event.key) || !place ? event.key : place[1]).toLowerCase();
    };"""

NOTE_KEY = (
    f"""
if (!window.elephantNote) {{{_PRESSED}"""
    + """
    let writing = false, place = "";
    const note = () => document.querySelector(".st-key-note-area input");
    const write = () => {  // the field may be drawn a moment later than the card: until then no key decides
        if (!document.querySelector(".st-key-note-area")) return false;
        [writing, place] = [true, location.pathname];
        if (note()) note().focus();
        return true;
    };
    addEventListener("keydown", (event) => {
        const typing = event.target.closest && event.target.closest("input, textarea, [contenteditable=true]");
        if (event.key === "Tab" || event.key === "Escape" || place !== location.pathname) writing = false;
        if (typing) {
            if (event.key === "Escape" && typing === note()) typing.blur();
        } else if (event.ctrlKey || event.altKey || event.metaKey) {
            return;
        } else if (pressed(event) === "n" ? write() : writing && event.key.length === 1) {
            event.preventDefault();
            event.stopImmediatePropagation();
        }
    }, true);
    addEventListener("pointerdown", () => { writing = false; }, true);
    new MutationObserver(() => {  // a card drawn meanwhile took the field away with it: go on in the new one
        if (writing && document.activeElement === document.body) write();
    }).observe(document.body, {childList: true, subtree: true});
    window.elephantNote = write;
}
"""
)

ANSWER_KEYS = (
    f"""
if (!window.elephantKeys) {{{_PRESSED}"""
    + """
    const keys = window.elephantKeys = {opens: 0};  // from when on a press counts: not before what it answers was painted
    const marks = ["A", "same", "value-1", "whys", "submit"].map((one) => `[class*="st-key-${one}-"]`);
    const among = (marks, which) => document.querySelectorAll(marks.map((one) => `.st-key-choices ${one}${which}`).join());
    let item = "", drawn = "", waiting = 0;
    const look = () => {
        const found = [...among(marks, ':not([data-retained="true"])')];
        const live = found.map((one) => /st-key-\\S+/.exec(one.className)[0]).join();
        if (live === drawn) return;
        const now = (/[0-9a-f]{32}/.exec(live) || [item])[0];
        const wait = now === item ? 40 : 250, mine = ++waiting;  // nobody reads an item faster
        if (now !== item) document.querySelector('[data-testid="stMain"]').scrollTop = 0;  // read from its top
        [item, drawn, keys.opens] = [now, live, Infinity];
        const painted = () => { if (mine === waiting) keys.opens = performance.now() + wait; };
        requestAnimationFrame(() => requestAnimationFrame(painted));  // the second one begins when the first was painted
    };
    new MutationObserver(look).observe(document.body, {
        childList: true, subtree: true, attributes: true, attributeFilter: ["class", "data-retained"]});
    look();
    let undoing = false, tabbing = false;  // whether the press before was an undo; whether the focus was moved by key
    const early = (event, undoes) => {
        const meant = undoes && !undoing;  // the answer it takes back was read: it need not wait for the next card
        undoing = undoes;
        return event.repeat || (!meant && event.timeStamp < keys.opens);  // when it was pressed, not when we heard of it
    };
    const of = (event, what) => event.target.closest && event.target.closest(what);
    const buttons = ".st-key-choices button, .st-key-actions button";
    const stop = (event) => {
        event.preventDefault();
        event.stopImmediatePropagation();
        if (event.repeat) return;
        document.querySelector(".st-key-choices")?.animate([{opacity: .3}, {opacity: 1}], 300);  // it did not count
    };
    addEventListener("keydown", (event) => {
        if (event.key === "Tab") tabbing = true;
        if (of(event, "input, textarea, [contenteditable=true]")) return;
        const key = pressed(event);
        if (!/^([0-9 tpeu]|enter)$/.test(key)) return;
        const soon = early(event, key === "u");
        if (!among(marks, "").length) return;
        if (soon) stop(event);
        else if (tabbing && /^( |enter)$/.test(key) && of(event, buttons)) event.stopImmediatePropagation();  // no shortcut
    }, true);
    addEventListener("click", (event) => {  // the second of a double click would hit the next card
        if (of(event, buttons) && early(event, Boolean(of(event, '[class*="st-key-press-undo-"]')))) stop(event);
    }, true);
    addEventListener("pointerdown", () => { tabbing = false; }, true);
    addEventListener("pointerup", () => setTimeout(() => {  // Enter on a reason just clicked would take it off and submit
        const at = document.activeElement;                  // nothing, and on a switch no key would count
        if (among(marks, "").length && at?.matches('[type="checkbox"], .st-key-note-area button')) at.blur();
    }, 50), true);
}
"""
)
