// Asks the server for another look: after `data.first` milliseconds, then every `data.every`.
const TIMERS = new WeakMap();

// Called anew when `data` changes, without a clean-up in between.
export default function ({ data, parentElement, setTriggerValue }) {
  const stop = () => clearTimeout(TIMERS.get(parentElement));
  const wait = (milliseconds) => TIMERS.set(parentElement, setTimeout(look, milliseconds));
  const look = () => {
    setTriggerValue("look", true);
    wait(data.every);
  };
  stop();
  wait(data.first);
  return stop;
}
