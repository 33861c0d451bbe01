// Figures as people read them.

export const NONE = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export function number(value) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) >= 100 ? whole.format(value) : short.format(Math.abs(value) < 0.005 ? 0 : value);
}

export function milliseconds(value) {
  if (value === null || value === undefined) return NONE;
  return Math.abs(value) >= 10000 ? `${short.format(value / 1000)} s` : `${number(value)} ms`;
}

export function seconds(value, isAtLeast = false) {
  if (value === null || value === undefined) return NONE;
  const prefix = isAtLeast ? "≥ " : "";
  if (value >= 3600) return `${prefix}${short.format(value / 3600)} h`;
  if (value >= 120) return `${prefix}${short.format(value / 60)} min`;
  return `${prefix}${value >= 10 ? whole.format(value) : value.toFixed(1).replace(".0", "")} s`;
}

const ARROWS = { growing: "↗ growing", shrinking: "↘ shrinking", steady: "→ steady" };
export const trend = (value) => (value ? ARROWS[value] : "");

export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

export function dateAndTime(at) {
  const date = new Date(at * 1000);
  const day = date.toLocaleDateString("sv-SE");
  const fraction = String(date.getMilliseconds()).padStart(3, "0");
  return `${day} ${date.toLocaleTimeString("en-GB")}.${fraction}`;
}

/** A label as the service has it: texts as they are, other values as JSON. */
export const label = (value) => (typeof value === "string" ? value : JSON.stringify(value));
