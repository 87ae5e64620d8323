// A page that has lost its server and found it again asks for a run at once.
//
// A server that was started anew knows nothing of the page until it sends something, and the first press of a button
// would do no more than that: what it does is declared in a run that has not been.
const STATE = "data-test-connection-state";

export default function ({ setStateValue }) {
  const app = document.querySelector(`[data-testid=stApp][${STATE}]`);
  if (!app) {
    return;
  }
  let lost = app.getAttribute(STATE) !== "CONNECTED";
  const watch = new MutationObserver(() => {
    const connected = app.getAttribute(STATE) === "CONNECTED";
    if (connected && lost) {
      setStateValue("found", Date.now());
    }
    lost = !connected;
  });
  watch.observe(app, { attributes: true, attributeFilter: [STATE] });
  return () => watch.disconnect();
}
