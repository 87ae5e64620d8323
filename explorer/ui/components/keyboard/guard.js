// Streamlit takes shortcuts with Ctrl or Cmd in text fields, too. There, undo and redo belong to the text.

function isTyping(target) {
  const typed = target instanceof HTMLInputElement && !/^(checkbox|radio|range|button|file|submit|reset|color)$/.test(target.type);
  return typed || target instanceof HTMLTextAreaElement || Boolean(target?.isContentEditable);
}

function guard(event) {
  const undoes = (event.ctrlKey || event.metaKey) && /^[yz]$/i.test(event.key);
  if (undoes && isTyping(event.composedPath()[0])) event.stopImmediatePropagation(); // the browser still does its own
}

export default function () {
  window.addEventListener("keydown", guard, true); // added again, it stays one listener
  return () => window.removeEventListener("keydown", guard, true);
}
