// Draws each figure when it comes near the window; all of them before printing.
(() => {
  const config = CONFIG_JSON;
  // Where nothing hovers the bar would always lie over the legend.
  if (matchMedia('(hover: none)').matches) config.displayModeBar = false;
  const plots = [...document.querySelectorAll('.plot')];
  const draw = (element) => {
    if (element.dataset.drawn) return;
    element.dataset.drawn = 'yes';
    const spec = JSON.parse(document.getElementById(element.id + '-data').textContent);
    Plotly.newPlot(element, spec.data, spec.layout, config);
  };
  const near = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting) { draw(entry.target); near.unobserve(entry.target); }
  }), { rootMargin: '900px' });
  plots.forEach((element) => near.observe(element));
  window.addEventListener('beforeprint', () => plots.forEach(draw));
})();
