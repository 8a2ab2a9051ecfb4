// Colours that are computed; all others are in base.css.

// Cividis (Nuñez, Anderton, Renslow 2018): the same order to colour-blind and other eyes.
const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];

export function cividis(at) {
  const place = Math.min(1, Math.max(0, at)) * (CIVIDIS.length - 1);
  const i = Math.min(Math.floor(place), CIVIDIS.length - 2);
  const mix = CIVIDIS[i].map((low, k) => Math.round(low + (CIVIDIS[i + 1][k] - low) * (place - i)));
  return `rgb(${mix.join(" ")})`;
}
