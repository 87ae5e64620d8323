// One entry of the browser's history for each view.
//
// Streamlit pushes an entry for every write to the query string and for every page that a run names, also for those of
// a run that nobody waits for any more: one that completes the URL of a page just opened, that follows a finished job,
// or that was still under way when Back was pressed. Back would then stay where it is, or be undone. Here an entry is
// made only if the user has done something since the page was opened or gone back to, and only for another page, mask or
// matrix; everything else completes the entry that there is.
const VIEW = ["mask", "matrix", "plot"];

const view = (url) => JSON.stringify(VIEW.map((name) => new URL(url).searchParams.get(name)));

export default function () {
  if (window.entriesPerView) {
    return;
  }
  window.entriesPerView = true;
  let acted = false;
  const act = () => {
    acted = true;
  };
  window.addEventListener("pointerdown", act, true);
  window.addEventListener("keydown", act, true);
  const rest = () => {
    acted = false;
  };
  window.addEventListener("popstate", rest, true);
  const push = window.history.pushState.bind(window.history);
  window.history.pushState = (state, title, target) => {
    const url = new URL(target, window.location.href);
    const moved = url.pathname !== window.location.pathname;
    if (acted && (moved || view(url) !== view(window.location.href))) {
      acted = !moved;
      push(state, title, target);
    } else {
      window.history.replaceState(state, title, target);
    }
  };
}
