// A cursor over all charts at one time: what each series said then.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const times = data.series.time_s;
  const readout = document.getElementById("readout");
  const charts = [...document.querySelectorAll("svg.over-time")];
  const LEFT = 64, RIGHT = 22, WIDTH = 640;
  if (!times.length) return;

  const nearest = (time) => {
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1; else high = middle;
    }
    return low > 0 && time - times[low - 1] < times[low] - time ? low - 1 : low;
  };
  const spoken = (seconds) => {
    const whole = Math.round(seconds), pad = (n) => String(n).padStart(2, "0");
    return `${Math.floor(whole / 3600)}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
  };
  const hide = () => {
    readout.hidden = true;
    for (const chart of charts) chart.querySelector(".cursor").style.visibility = "hidden";
  };
  const show = (event) => {
    const chart = event.currentTarget, box = chart.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * WIDTH;
    if (x < LEFT || x > WIDTH - RIGHT) return hide();
    const place = nearest((x - LEFT) / (WIDTH - LEFT - RIGHT) * data.end_s);
    const at = LEFT + (WIDTH - LEFT - RIGHT) * times[place] / data.end_s;
    for (const other of charts) {
      const line = other.querySelector(".cursor");
      line.setAttribute("x1", at);
      line.setAttribute("x2", at);
      line.style.visibility = "visible";
    }
    readout.replaceChildren();
    const head = document.createElement("b");
    head.textContent = spoken(times[place]);
    readout.append(head);
    for (const key of chart.closest("section").dataset.series.split(" ")) {
      const row = document.createElement("div");
      row.textContent = `${data.names[key]}: ${data.series[key][place].toLocaleString()}`;
      readout.append(row);
    }
    readout.hidden = false;
    const room = window.innerWidth - event.clientX > readout.offsetWidth + 28;
    readout.style.left = `${event.clientX + (room ? 16 : -readout.offsetWidth - 16)}px`;
    readout.style.top = `${Math.max(8, event.clientY - readout.offsetHeight - 12)}px`;
  };
  for (const chart of charts) {
    chart.addEventListener("pointermove", show);
    chart.addEventListener("pointerleave", hide);
  }
})();
