// Every text of the page that is seen and has less contrast with what is behind it than WCAG's AA asks for. Colours are opaque.

const channel = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const isClear = (colour) => colour === 'transparent' || numbers(colour)[3] === 0;

function behind(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!isClear(colour)) return colour;
  }
  return 'rgb(255, 255, 255)';
}

const poor = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest('.unseen')) continue;
  const style = getComputedStyle(element);
  const colour = element instanceof SVGElement ? style.fill : style.color;
  const [a, b] = [colour, behind(element)].map((one) => luminance(numbers(one)));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const words = texts.currentNode.data.trim().slice(0, 30);
  if (ratio < 4.5) poor.push(`"${words}" ${colour} on ${behind(element)}: ${ratio.toFixed(2)}`);
}
return poor;
