// Undo and redo, by button or by Ctrl: two things that Streamlit leaves open.
// 1. It takes shortcuts in text fields, too. There, undo and redo belong to the text.
// 2. The server sees a button pressed once, however often that was before its next run. So a press waits here until the
//    one before it has been answered: `data.answered` counts the steps that the server has taken.

const PATIENCE = 10_000; // ms, after which an answer is no longer waited for
const waiting = []; // keys of buttons
let answered = 0;
let asked = null; // {before: `answered` when a press went to the server, timer}
let mine = false; // whether a click is one that has waited

function isTyping(target) {
  const typed = target instanceof HTMLInputElement && !/^(checkbox|radio|range|button|file|submit|reset|color)$/.test(target.type);
  return typed || target instanceof HTMLTextAreaElement || Boolean(target?.isContentEditable);
}

function button(key) {
  return document.querySelector(`.st-key-${key} button:not([disabled])`);
}

function forget() {
  clearTimeout(asked?.timer);
  asked = null;
}

function clear() {
  forget();
  waiting.length = 0;
}

// Whether a press may go on to the server; if not, it waits.
function goesOn(key) {
  if (asked) {
    waiting.push(key);
    return false;
  }
  asked = { before: answered, timer: setTimeout(release, PATIENCE) };
  return true;
}

function release() {
  forget();
  const key = waiting.shift();
  const next = key && button(key);
  if (!next) return clear(); // nothing is left to undo
  goesOn(key);
  mine = true;
  next.click();
  mine = false;
}

function onKeyDown(event) {
  const undoes = (event.ctrlKey || event.metaKey) && /^[yz]$/i.test(event.key);
  if (!undoes) return;
  const key = /z/i.test(event.key) ? "undo" : "redo";
  const typing = isTyping(event.composedPath()[0]); // the browser still does its own
  const plain = !event.shiftKey && !event.altKey;
  if (typing || (plain && (asked || button(key)) && !goesOn(key))) event.stopImmediatePropagation();
}

function onClick(event) {
  const pressed = event.target instanceof Element && event.target.closest(".st-key-undo button, .st-key-redo button");
  if (!pressed || mine) return;
  if (!goesOn(pressed.closest(".st-key-undo") ? "undo" : "redo")) event.stopImmediatePropagation();
}

export default function ({ data }) {
  answered = data.answered;
  if (asked && answered !== asked.before) release();
  window.addEventListener("keydown", onKeyDown, true); // added again, each stays one listener
  window.addEventListener("click", onClick, true);
  return () => {
    clear();
    window.removeEventListener("keydown", onKeyDown, true);
    window.removeEventListener("click", onClick, true);
  };
}
