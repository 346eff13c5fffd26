// Draws the figures from top to bottom, one per frame, so that the page can be read and scrolled meanwhile.
(async () => {
  const options = { displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] };
  for (const place of document.querySelectorAll(".figure")) {
    await new Promise((next) => setTimeout(next));
    const figure = JSON.parse(place.nextElementSibling.textContent);
    try {
      await Plotly.newPlot(place, figure.data, figure.layout, options);
    } catch (error) {
      place.textContent = `This figure could not be drawn: ${error}`;
      console.error(error);
    }
  }
  document.documentElement.dataset.drawn = "all";
})();

// One definition at a time; Escape or a click elsewhere closes it.
const definitions = [...document.querySelectorAll("details")];
const closeExcept = (kept) => definitions.forEach((entry) => entry !== kept && entry.removeAttribute("open"));
document.addEventListener("click", (event) => closeExcept(event.target.closest("details")));
document.addEventListener("keydown", (event) => event.key === "Escape" && closeExcept(null));
