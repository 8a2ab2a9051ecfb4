// One tooltip for the page; what it says is also in the label of what it is about.

let owner = null;

/** Show `lines` beside `node`, the first as a title. */
export function showTip(node, lines) {
  const tip = document.getElementById("tooltip");
  owner = node;
  tip.replaceChildren(...lines.filter(Boolean).map((line, i) => {
    const part = document.createElement(i ? "span" : "b");
    part.textContent = line;
    return part;
  }));
  tip.hidden = false;
  const [box, own] = [node.getBoundingClientRect(), tip.getBoundingClientRect()];
  const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
  const above = box.top - own.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
}

export function hideTip(node = owner) {
  if (node === owner) document.getElementById("tooltip").hidden = true;
}

addEventListener("scroll", () => hideTip(), { passive: true, capture: true });
addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
