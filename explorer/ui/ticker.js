// Asks the server for another look, every `data` milliseconds.
export default function ({ data, setTriggerValue }) {
  const timer = setInterval(() => setTriggerValue("look", true), data);
  return () => clearInterval(timer);
}
