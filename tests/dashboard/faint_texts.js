// Texts whose contrast with the nearest ground is below 4.5, or 3 where they are large.

const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

/** Red, green, blue and opacity of any CSS colour. */
function parts(text) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha / 255];
}

function luminance(colour) {
  const linear = colour.slice(0, 3).map((v) => (v <= 10.31 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function ground(node) {
  for (let at = node; at; at = at.parentElement) {
    const found = parts(getComputedStyle(at).backgroundColor);
    if (found[3] > 0.9) return found;
  }
  return [255, 255, 255, 1];
}

const faint = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const node = walk.currentNode.parentElement;
  const text = walk.currentNode.textContent.trim();
  if (!text || !node.checkVisibility() || node.closest("svg, noscript, .unseen, .skip, :disabled")) continue;
  const style = getComputedStyle(node);
  const [one, other] = [luminance(parts(style.color)), luminance(ground(node))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < (parseFloat(style.fontSize) >= 18.6 ? 3 : 4.5)) faint.push(`${text}: ${ratio.toFixed(1)}, ${style.color}`);
}
return faint;
