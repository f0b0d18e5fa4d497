// What a browser makes of each element with the class "output", written into the page as JSON.

const channels = (color) => {
  const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
  return [[red, green, blue], alpha];
};
const mix = (below, above, alpha) => above.map((value, at) => value * alpha + below[at] * (1 - alpha));
const over = (color, below) => mix(below, ...channels(color));

// An element with an opacity is painted as a whole, background and text, and then laid over what is below.
const paint = ([element, ...inside], below) => {
  const style = getComputedStyle(element);
  const background = over(style.backgroundColor, below);
  const painted = inside.length ? paint(inside, background) : [background, over(style.color, background)];
  return painted.map((color) => mix(below, color, Number(style.opacity)));
};

const luminance = (color) => {
  const [red, green, blue] = color
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};

// The contrast of WCAG 2, from 1 to 21.
const contrast = (element) => {
  const chain = [];
  for (let each = element; each; each = each.parentElement) chain.unshift(each);
  const [dark, light] = paint(chain, [255, 255, 255]).map(luminance).sort((one, other) => one - other);
  return (light + 0.05) / (dark + 0.05);
};

const texts = (output) => {
  const walker = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) if (walker.currentNode.data.trim()) found.push(walker.currentNode);
  return found;
};

// How far the widest text or element reaches beyond the output, in pixels, where nothing scrolls.
const sticksOut = (output) => {
  const right = output.getBoundingClientRect().right;
  const ranges = texts(output).map((node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return range;
  });
  const elements = [...output.querySelectorAll("*")];
  const scrolls = elements.some((each) => /auto|scroll/.test(getComputedStyle(each).overflowX));
  if (scrolls) throw new Error("an element scrolls, which this does not measure");
  return Math.max(...[...elements, ...ranges].map((each) => each.getBoundingClientRect().right)) - right;
};

const measured = [...document.querySelectorAll(".output")].map((output) => ({
  name: output.dataset.name,
  theme: output.dataset.theme,
  text: output.textContent,
  tags: [...new Set([...output.querySelectorAll("*")].map((each) => each.localName))],
  sticksOut: sticksOut(output),
  texts: texts(output).map((node) => ({ text: node.data, contrast: contrast(node.parentElement) })),
}));
const told = document.createElement("pre");
told.id = "measured";
told.textContent = JSON.stringify(measured);
document.body.append(told);
