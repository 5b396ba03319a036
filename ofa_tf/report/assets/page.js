"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const SHAPES = ["circle", "rect", "triangle", "cross", "crossRot", "star"];  // rectRot is for exports
  const NEAR_PX = 40;
  const charts = [];

  // --- words and elements ----------------------------------------------------------------------------------------

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (index) => style(`--p${index % 8}`);
  const percent = (share) => (share == null ? "-" : `${(share * 100).toFixed(1)} %`);
  const millis = (ms) => (ms == null ? "-" : `${Number(ms.toPrecision(3))} ms`);
  const count = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(2)} M` : `${(n / 1e3).toFixed(0)} k`);

  function element(tag, text, properties = {}) {
    const made = Object.assign(document.createElement(tag), properties);
    if (text != null) made.textContent = text;
    return made;
  }

  function svg(tag, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text != null) made.textContent = text;
    return made;
  }

  // --- an arch as blocks: `32 px | 7x6 3x4 | 5x3`, a group for each stage ----------------------------------------

  function drawArch(place, arch) {
    const [resolution, ...stages] = arch.split(" | ");
    const drawn = stages.map((stage, index) => {
      const blocks = stage.split(" ").map((block) => block.split("x").map(Number));
      const height = 50, widths = blocks.map(([, expand]) => 12 + 4 * expand);
      const width = Math.max(widths.reduce((sum, next) => sum + next + 4, 0), 42);
      const group = svg("svg", { width, height: height + 14 });
      let left = (width - widths.reduce((sum, next) => sum + next + 4, -4)) / 2;
      blocks.forEach(([kernel, expand], number) => {
        const size = 6 * kernel + 4, middle = left + widths[number] / 2;
        group.append(
          svg("rect", { x: left + 0.5, y: (height - size) / 2, width: widths[number], height: size, rx: 3 }),
          svg("text", { x: middle, y: height / 2 }, `${kernel}×${expand}`),
        );
        left += widths[number] + 4;
      });
      group.append(svg("text", { x: width / 2, y: height + 7 }, `stage ${index + 1}`));
      return group;
    });
    place.replaceChildren(element("span", resolution), ...drawn);
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Arch, kernel x expand ratio of each block: ${arch}`);
    place.title = "Height: kernel size. Width: expand ratio.";
  }

  // --- copying ---------------------------------------------------------------------------------------------------

  let hiding;
  function say(text) {
    const toast = document.getElementById("toast");
    toast.textContent = text;
    toast.classList.add("shown");
    clearTimeout(hiding);
    hiding = setTimeout(() => toast.classList.remove("shown"), 2500);
  }

  function copyOld(text) {  // where a page may not use the clipboard's own interface
    const area = element("textarea", null, { value: text });
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus({ preventScroll: true });
    return done;
  }

  async function copy(text) {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      done = copyOld(text);
    }
    say(done ? "Command copied" : "This browser does not let the page copy: select the command instead");
  }

  document.addEventListener("click", (event) => {
    const command = event.target.closest?.("[data-copy]")?.dataset.copy;
    if (command) copy(command);
  });

  // --- the front: points of every device, on one chart -----------------------------------------------------------

  function pointsOf(device) {
    const sure = device.error == null ? "" : ` ± ${(device.error * 100).toFixed(device.error >= 0.0095 ? 0 : 1)} %`;
    const predicted = device.source === "measured" ? "predicted" : `predicted, ${device.source} table`;
    const byLatency = (a, b) => a.x - b.x;
    const front = device.front.map((point) => ({
      x: point.ms, y: point.accuracy * 100, kind: "front", ...point,
      facts: [
        [`latency, ${predicted}`, millis(point.ms) + sure],
        ["latency, measured", point.export ? millis(point.export.measured_ms) : "not exported yet"],
        [`accuracy, predicted${device.origin === "imported" ? " (imported)" : ""}`, percent(point.accuracy)],
        ["accuracy, measured", point.export ? percent(point.export.file_accuracy) : "not exported yet"],
        ...(point.export?.size_bytes ? [["file size", `${(point.export.size_bytes / 1e3).toFixed(0)} kB`]] : []),
      ],
    }));
    const exports = device.exports.filter((point) => point.file_accuracy != null).map((point) => ({
      x: point.measured_ms, y: point.file_accuracy * 100, kind: `export ${point.name}`, ...point,
      facts: [
        ["latency, measured", millis(point.measured_ms)],
        [`latency, ${predicted}`, millis(point.predicted_ms)],
        ["accuracy, measured", percent(point.file_accuracy)],
        ["file size", point.size_bytes ? `${(point.size_bytes / 1e3).toFixed(0)} kB` : "-"],
      ],
    }));
    const evaluated = device.evaluated.flatMap((ms, index) => ms == null ? [] : [{
      x: ms, y: data.subnets[index].accuracy * 100, kind: "evaluated subnet", ...data.subnets[index],
      command: `${data.subnets[index].echo} | ${device.exportGiven} subnet-${index + 1}`,
      facts: [
        [`latency, ${predicted}`, millis(ms) + sure],
        ["accuracy, evaluated", percent(data.subnets[index].accuracy)],
      ],
    }]);
    return { front: front.sort(byLatency), exports: exports.sort(byLatency), evaluated: evaluated.sort(byLatency) };
  }

  function frontSets() {
    return data.devices.flatMap((device, index) => {
      const points = pointsOf(device), pointStyle = SHAPES[index % SHAPES.length];
      const all = [
        { kind: "exports", label: `${device.label}, exported files`, radius: 8, pointStyle: "rectRot", borderWidth: 2, order: 0 },
        { kind: "front", label: `${device.label}, front`, radius: 4, pointStyle, showLine: true, borderWidth: 2, order: 1 },
        { kind: "evaluated", label: `${device.label}, evaluated subnets`, radius: 2.5, pointStyle, order: 2, faint: true },
      ];
      return all.map((set) => ({ ...set, device: index, data: points[set.kind], pointHoverRadius: set.radius + 4 }));
    });
  }

  function paint(set) {
    const ink = set.faint ? `${colour(set.device)}66` : colour(set.device);
    const edge = set.kind === "exports" ? style("--text") : ink;
    Object.assign(set, { borderColor: edge, backgroundColor: ink, pointHoverBorderColor: style("--text"), pointHoverBorderWidth: 2 });
  }

  function axes(x, y) {
    const scale = (title, more) => ({
      title: { display: true, text: title, color: style("--soft") },
      grid: { color: style("--line") }, ticks: { color: style("--soft"), maxRotation: 0, autoSkipPadding: 12, ...more.ticks }, ...more.scale,
    });
    return { x: scale(x.title, x), y: scale(y.title, y) };
  }

  const leading = (value) => Number(value.toExponential().split("e")[0]);
  const logTicks = { callback: (value) => ([1, 1.5, 2, 3, 5, 7].includes(leading(value)) ? String(Number(value.toPrecision(2))) : null) };

  function makeFront() {
    const canvas = document.getElementById("front-chart");
    if (!canvas) return;
    const sets = frontSets();
    const latencies = sets.flatMap((set) => set.data.map((point) => point.x)).filter((ms) => ms > 0);
    if (!latencies.length) return;
    const [low, high] = [latencies.reduce((a, b) => Math.min(a, b)), latencies.reduce((a, b) => Math.max(a, b))];
    const chart = makeChart(canvas, sets, () => {
      sets.forEach(paint);
      return axes(
        { title: "latency, ms", ticks: logTicks, scale: { type: "logarithmic", min: low * 0.93, max: high * 1.07 } },
        { title: "top-1 accuracy, %" },
      );
    }, {
      interaction: { mode: "nearest", intersect: false },
      plugins: { tooltip: { enabled: false } },
      onHover: (event, found) => choose(nearest(event, found)),
      onClick: (event, found) => {
        choose(nearest(event, found));
        if (nearest(event, found)) copy(current().command);
      },
    });
    const panel = document.getElementById("front-point");
    let chosen = null;
    const current = () => sets[chosen.datasetIndex].data[chosen.index];

    function nearest(event, found) {
      const near = found.find(({ element: { x, y } }) => Math.hypot(x - event.x, y - event.y) < NEAR_PX);
      return near && { datasetIndex: near.datasetIndex, index: near.index };
    }

    function choose(place) {
      if (!place || (chosen && chosen.datasetIndex === place.datasetIndex && chosen.index === place.index)) return;
      chosen = place;
      show(current(), sets[place.datasetIndex]);
    }

    function show(point, set) {
      const title = element("h3", point.kind);
      title.append(element("span", data.devices[set.device].label, { className: "label" }));
      const arch = element("div", null, { className: "arch" });
      drawArch(arch, point.arch);
      const facts = element("dl");
      for (const [name, value] of [...point.facts, ["MACs", count(point.macs)], ["parameters", count(point.params)]])
        facts.append(element("dt", name), element("dd", value));
      const command = element("div", null, { className: "command" });
      const button = element("button", "Copy", { type: "button" });
      button.dataset.copy = point.command;
      command.append(element("code", point.command), button);
      panel.replaceChildren(title, arch, facts, command);
    }

    function move(event) {
      const visible = sets.map((_, index) => index).filter((index) => chart.isDatasetVisible(index) && sets[index].data.length);
      if (!visible.length) return;
      if (event.key === "Enter") {
        if (chosen) copy(current().command);
        return;
      }
      let { datasetIndex, index } = chosen ?? { datasetIndex: visible[0], index: -1 };
      const turn = { ArrowUp: -1, ArrowDown: 1 }[event.key], step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (turn) {
        const { x } = sets[datasetIndex].data[Math.max(index, 0)];
        datasetIndex = visible[(visible.indexOf(datasetIndex) + turn + visible.length) % visible.length];
        const distance = (point) => Math.abs(Math.log(point.x / x));
        const points = sets[datasetIndex].data;
        index = points.reduce((best, point, here) => (distance(point) < distance(points[best]) ? here : best), 0);
      } else if (step) {
        index = Math.min(Math.max(index + step, 0), sets[datasetIndex].data.length - 1);
      } else if (event.key === "Home" || event.key === "End") {
        index = event.key === "Home" ? 0 : sets[datasetIndex].data.length - 1;
      } else {
        return;
      }
      event.preventDefault();
      choose({ datasetIndex, index });
      chart.setActiveElements([{ datasetIndex, index }]);
      chart.update("none");
    }

    canvas.addEventListener("keydown", move);
    frontLegend(chart, sets);
    const first = sets.findIndex((set) => set.kind === "front" && set.data.length);
    const start = first >= 0 ? first : sets.findIndex((set) => set.data.length);
    choose({ datasetIndex: start, index: Math.floor(sets[start].data.length / 2) });
  }

  function frontLegend(chart, sets) {
    const place = document.getElementById("front-legend");
    const names = { front: "front, predicted", exports: "exported files, measured", evaluated: "evaluated subnets" };
    const shown = new Set(["front", "exports", "evaluated", ...data.devices.keys()]);
    const refresh = () => {
      sets.forEach((set, index) => chart.setDatasetVisibility(index, shown.has(set.kind) && shown.has(set.device)));
      chart.update("none");
    };
    const entry = (key, name, mark) => {
      const box = element("input", null, { type: "checkbox", checked: shown.has(key) });
      box.addEventListener("change", () => {
        if (box.checked) shown.add(key);
        else shown.delete(key);
        refresh();
      });
      const label = element("label");
      label.append(box, ...(mark ? [mark] : []), name);
      place.append(label);
    };
    data.devices.forEach((device, index) => {
      const mark = element("i");
      mark.className = `part-${index % 8}`;
      entry(index, device.label, mark);
    });
    for (const [kind, name] of Object.entries(names)) if (sets.some((set) => set.kind === kind && set.data.length)) entry(kind, name);
  }

  // --- the other charts ------------------------------------------------------------------------------------------

  function makeChart(canvas, datasets, scales, { own = [], ...options }) {
    const chart = new Chart(canvas, {
      type: "scatter", data: { datasets },
      options: {
        animation: false, maintainAspectRatio: false, responsive: true, scales: scales(),
        ...options, plugins: { legend: { display: false }, ...options.plugins },
      },
      plugins: own,
    });
    charts.push(() => {
      chart.options.scales = scales();
      if (chart.options.plugins.legend.labels) chart.options.plugins.legend.labels.color = style("--soft");
      chart.update("none");
    });
    return chart;
  }

  const stageLines = {
    id: "stages",
    beforeDatasetsDraw({ ctx, chartArea: { top, bottom }, scales: { x } }) {
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = style("--soft");
      ctx.setLineDash([3, 3]);
      ctx.font = "11px system-ui, sans-serif";
      for (const { name, start, stop } of data.training.stages) {
        const left = x.getPixelForValue(start), right = x.getPixelForValue(stop);
        ctx.beginPath();
        ctx.moveTo(left, top);
        ctx.lineTo(left, bottom);
        ctx.stroke();
        if (right - left > ctx.measureText(name).width + 8) ctx.fillText(name, left + 4, bottom - 5);
      }
      ctx.restore();
    },
  };

  function makeCurve(id, y, lines) {
    const canvas = document.getElementById(id);
    if (!canvas || !lines.some((line) => line.points.length)) return canvas?.closest("figure").remove();
    const last = data.training.stages.at(-1).stop;
    const sets = lines.map(({ label, points, marks }, index) => ({
      label, index, data: points.map(([x, value]) => ({ x, y: value })), showLine: true, borderWidth: 2,
      pointRadius: marks ? 4 : 0, pointStyle: SHAPES[index], pointHitRadius: 8,
    }));
    makeChart(canvas, sets, () => {
      sets.forEach((set) => { set.borderColor = set.backgroundColor = colour(set.index); });
      return axes({ title: "training steps, all stages", scale: { min: 0, max: last } }, { title: y });
    }, {
      own: [stageLines],
      interaction: { mode: "nearest", intersect: false },
      plugins: {
        legend: { display: sets.length > 1, labels: { usePointStyle: true, color: style("--soft") } },
        tooltip: { callbacks: { label: ({ dataset, parsed }) => `${dataset.label}: ${Number(parsed.y.toPrecision(4))} at step ${parsed.x}` } },
      },
    });
  }

  function makeSubnets() {
    const canvas = document.getElementById("subnets-chart");
    if (!canvas) return;
    const resolution = (subnet) => parseInt(subnet.arch, 10);
    const sizes = [...new Set(data.subnets.map(resolution))].sort((a, b) => a - b);
    const sets = sizes.map((size, index) => ({
      label: `${size} px`, index, pointRadius: 3.5, pointStyle: SHAPES[index % SHAPES.length],
      data: data.subnets.filter((subnet) => resolution(subnet) === size)
        .map((subnet) => ({ x: subnet.macs / 1e6, y: subnet.accuracy * 100, arch: subnet.arch })),
    }));
    makeChart(canvas, sets, () => {
      sets.forEach((set) => { set.borderColor = set.backgroundColor = `${colour(set.index)}b0`; });
      return axes({ title: "MACs, millions" }, { title: "accuracy, evaluated, %" });
    }, {
      plugins: {
        legend: { display: true, labels: { usePointStyle: true, color: style("--soft") } },
        tooltip: { callbacks: { label: ({ raw }) => [`${raw.y.toFixed(1)} %, ${raw.x.toFixed(2)} M MACs`, raw.arch] } },
      },
    });
  }

  makeFront();
  makeCurve("accuracy-curve", "accuracy, %", Object.entries(data.training.accuracies).map(([label, points]) => ({
    label, marks: true, points: points.map(([step, share]) => [step, share * 100]),
  })));
  makeCurve("loss-curve", "loss", data.training.loss.map(({ stage, points }) => ({ label: stage, points })));
  makeSubnets();
  for (const place of document.querySelectorAll("[data-arch]")) drawArch(place, place.dataset.arch);
  dark.addEventListener("change", () => charts.forEach((repaint) => repaint()));
})();
