// The pipeline as boxes with arrows. Each box is a button, so that the keyboard reaches it.
// Text only ever becomes textContent, so nothing in it can fetch, run or be a link.

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".flow");
  const boxes = data.boxes.map(({ id, title, figure, time }, number) => {
    const box = make("button", "box");
    box.type = "button";
    box.style.gridArea = `b${number}`;
    box.setAttribute("aria-pressed", String(id === data.chosen));
    box.append(make("span", "title", title), make("span", "figure", figure));
    if (time) box.append(make("span", "time", time));
    box.onclick = () => {
      setTriggerValue("chosen", id);
      // where the boxes stand below each other, what opens would be out of sight
      if (root.clientWidth <= 760) {
        const opened = document.querySelector(".st-key-open-box");
        opened?.scrollIntoView({ behavior: "smooth", block: "start" });
      }
    };
    return box;
  });
  root.replaceChildren(...boxes);
}
