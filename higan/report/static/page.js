"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
  const jpegOf = (image) => {
    const text = atob(image.src.slice(image.src.indexOf(",") + 1));
    return new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });
  };
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const digits = (number, length) => String(number).padStart(length, "0");

  one(".theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const sizes = (target, done = () => {}) =>
    all('input[name="size"]').forEach((input) =>
      input.addEventListener("change", () => { target.dataset.size = input.value; done(); }));

  const filter = (field, items, fits, tally, nothing, what) => {
    const apply = () => {
      const wanted = field.value.trim().toLowerCase();
      let shown = 0;
      items.forEach((item) => {
        item.hidden = !(item.dataset.name.toLowerCase().includes(wanted) && fits(item));
        shown += !item.hidden;
      });
      tally.textContent = shown === items.length ? `${shown} ${what}` : `${shown} of ${items.length} ${what}`;
      nothing.hidden = shown > 0;
    };
    field.addEventListener("input", apply);
    apply();
    return apply;
  };

  const table = one(".samples");
  if (table) samplesPage(table);
  const grid = one(".grid");
  if (grid) gridPage(grid);
  all(".pictures").forEach(enlarging);
  all("table[data-sortable]").forEach(sortable);

  function samplesPage(table) {
    const headings = table.dataset.headings.split("\n");
    const steps = headings.length, columns = Number(table.dataset.columns), rows = steps / columns; // a pad has rows
    const origin = Number(table.dataset.origin);
    const clamp = (place, count) => Math.max(0, Math.min(count - 1, place));
    const cell = (column, row) => clamp(row, rows) * columns + clamp(column, columns);
    // the sliders of a card or of all cards: one, or two of a pad, which together say the step
    const stepper = (inputs, moved) => {
      const axes = inputs.map((input) => input.dataset.headings.split("\n"));
      inputs.forEach((input) => input.addEventListener("input", () => moved(at())));
      const at = () => cell(...inputs.map((input) => Number(input.value)), 0);
      const show = (step) => [step % columns, Math.floor(step / columns)].slice(0, inputs.length).forEach((place, axis) => {
        inputs[axis].value = place;
        inputs[axis].setAttribute("aria-valuetext", axes[axis][place]);
      });
      return { at, show };
    };
    let everywhere = false; // all cards show the origin

    // stars outlive the page; where a browser keeps nothing for files, they live as long as it is open
    const place = `higan stars ${location.pathname} ${table.dataset.stem}`;
    const stars = new Set();
    try { JSON.parse(localStorage.getItem(place) ?? "[]").forEach((number) => stars.add(String(number))); } catch { /* none */ }
    const keepStars = () => {
      try { localStorage.setItem(place, JSON.stringify([...stars])); } catch { /* none */ }
      const numbers = [...stars].map(Number).sort((a, b) => a - b);
      one("#numbers").textContent = numbers.length ? `--samples=${numbers.join(",")}` : "";
    };

    const drawStep = (sprite, step, canvas) => {
      const height = sprite.naturalHeight / rows, width = sprite.naturalWidth / columns;
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(sprite, (step % columns) * width, Math.floor(step / columns) * height, width, height, 0, 0, canvas.width, canvas.height);
    };

    const cards = all("tbody tr", table).map((row) => {
      const strip = one(".strip", row);
      const sprite = one("img", strip);
      const name = row.dataset.name;
      const home = strip.parentNode;
      const parts = one("#card").content.cloneNode(true);
      const stage = one(".stage", parts), canvas = one("canvas", parts), badge = one(".badge", parts);
      const sliders = all(".slider", parts), hold = one(".hold", parts), star = one(".star", parts);
      let held = false, visible = false;

      sliders.forEach((slider) => slider.setAttribute("aria-label", slider.getAttribute("aria-label").replace("All samples", name)));
      one(".change", parts).textContent = `change ${Number(row.dataset.change).toFixed(1)}`;
      [[star, "star"], [hold, `hold for ${headings[origin]}`], [one(".save-picture", parts), "save this picture"], [one(".save-row", parts), "save the row"]]
        .forEach(([button, what]) => button.setAttribute("aria-label", `${name}: ${what}`));

      const draw = () => {
        const step = held || everywhere ? origin : steer.at();
        badge.textContent = headings[step];
        badge.classList.toggle("origin", held || everywhere);
        canvas.setAttribute("aria-label", `${name} at ${headings[step]}`);
        canvas.dataset.step = step;
        if (visible && canvas.width && sprite.naturalWidth) drawStep(sprite, step, canvas);
      };
      const set = (step) => {
        steer.show(step);
        row.style.setProperty("--step", step % columns);
        row.style.setProperty("--line", Math.floor(step / columns));
        draw();
      };
      const steer = stepper(sliders, set);
      const holdOrigin = (on) => { held = on; draw(); };

      hold.addEventListener("pointerdown", (event) => { hold.setPointerCapture(event.pointerId); holdOrigin(true); });
      ["pointerup", "pointercancel", "blur"].forEach((kind) => hold.addEventListener(kind, () => holdOrigin(false)));
      hold.addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); holdOrigin(true); } });
      hold.addEventListener("keyup", () => holdOrigin(false));
      hold.addEventListener("contextmenu", (event) => event.preventDefault());
      const mark = (on) => { press(star, on); one("span", star).textContent = on ? "★" : "☆"; row.dataset.starred = on ? "1" : ""; };
      mark(stars.has(row.dataset.number));
      star.addEventListener("click", () => {
        mark(!pressed(star));
        stars[pressed(star) ? "add" : "delete"](row.dataset.number);
        keepStars();
        refilter();
      });
      one(".save-row", parts).addEventListener("click", () =>
        save(jpegOf(sprite), `${table.dataset.stem}_${digits(row.dataset.number, 5)}.jpg`));
      one(".save-picture", parts).addEventListener("click", () => {
        const copy = document.createElement("canvas");
        copy.width = sprite.naturalWidth / columns;
        copy.height = sprite.naturalHeight / rows;
        drawStep(sprite, steer.at(), copy);
        const file = `${table.dataset.stem}_${digits(row.dataset.number, 5)}_${digits(steer.at(), 3)}.png`;
        copy.toBlob((blob) => save(blob, file), "image/png");
      });

      // the row of steps, or the pad: press or drag to a step
      const toStrip = (event) => {
        const box = strip.getBoundingClientRect();
        set(cell(Math.floor((event.clientX - box.left) / box.width * columns), Math.floor((event.clientY - box.top) / box.height * rows)));
      };
      strip.addEventListener("pointerdown", (event) => { if (event.button === 0) { event.preventDefault(); strip.setPointerCapture(event.pointerId); toStrip(event); } });
      strip.addEventListener("pointermove", (event) => { if (strip.hasPointerCapture(event.pointerId)) toStrip(event); });

      // the picture: drag sideways over the steps, hold still for the origin
      let grip = null;
      const release = () => { if (grip) { clearTimeout(grip.timer); grip = null; holdOrigin(false); } };
      stage.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        stage.setPointerCapture(event.pointerId);
        grip = { x: event.clientX, step: steer.at(), moved: false, timer: setTimeout(() => holdOrigin(true), 220) };
      });
      stage.addEventListener("pointermove", (event) => {
        if (!grip) return;
        const by = event.clientX - grip.x;
        if (!grip.moved && Math.abs(by) < 6) return;
        grip.moved = true;
        clearTimeout(grip.timer);
        held = false;
        set(cell(Math.round((grip.step % columns) + by / stage.clientWidth * columns), Math.floor(grip.step / columns)));
      });
      ["pointerup", "pointercancel"].forEach((kind) => stage.addEventListener(kind, release));

      row.cells[0].append(one(".mark", parts));
      home.prepend(one(".stage", parts), one(".slide", parts));
      home.append(one(".actions", parts));
      const card = { row, set, draw, stage, canvas, look: (on) => { visible = on; draw(); } };
      stage.card = card;
      sprite.addEventListener("load", draw);
      set(origin);
      return card;
    });

    // pictures are drawn when they come near the window, at the pixels of the screen
    const near = new IntersectionObserver((entries) => entries.forEach((entry) => entry.target.card.look(entry.isIntersecting)), { rootMargin: "400px" });
    const fit = new ResizeObserver((entries) => entries.forEach(({ target }) => {
      const { canvas, draw } = target.card;
      const width = Math.round(target.clientWidth * devicePixelRatio), height = Math.round(target.clientHeight * devicePixelRatio);
      if (width && height && (canvas.width !== width || canvas.height !== height)) {
        canvas.width = width;
        canvas.height = height;
        draw();
      }
    }));
    cards.forEach(({ stage }) => { near.observe(stage); fit.observe(stage); });

    const reading = one("#all-reading"), compare = one("#compare"), play = one("#play");
    const setAll = (step) => {
      master.show(step);
      reading.textContent = headings[step];
      cards.forEach((card) => card.set(step));
    };
    const master = stepper(all(".master .slider"), setAll);
    setAll(origin);
    const showOrigin = (on) => { everywhere = on; press(compare, on); cards.forEach((card) => card.draw()); };
    compare.addEventListener("click", () => showOrigin(!everywhere));
    const isHotkey = (event) => event.key.toLowerCase() === "o" && !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input[type=search], select");
    addEventListener("keydown", (event) => { if (isHotkey(event)) showOrigin(true); });
    addEventListener("keyup", (event) => { if (isHotkey(event)) showOrigin(false); });

    // from the origin to the last step, to the first and back, along each slider
    const along = (count, from) => {
      const path = [];
      for (const [end, way] of [[count - 1, 1], [0, -1], [from, 1]])
        for (let place = path.at(-1) ?? from; place !== end; ) path.push(place += way);
      return path;
    };
    const column = origin % columns, row = Math.floor(origin / columns);
    const tour = along(columns, column).map((place) => cell(place, row)).concat(along(rows, row).map((place) => cell(column, place)));
    let timer = 0;
    play.addEventListener("click", () => {
      press(play, !pressed(play));
      clearInterval(timer);
      if (!pressed(play) || !tour.length) return;
      let next = tour.indexOf(master.at()) + 1;
      timer = setInterval(() => { setAll(tour[next % tour.length]); next += 1; }, Math.max(90, 1600 / columns));
    });

    // one sweep over all steps at the start, until something is touched
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches || steps < 3;
    const path = still ? [] : [...tour];
    const sweep = setInterval(() => { if (path.length) setAll(path.shift()); else clearInterval(sweep); }, Math.max(60, 1200 / columns));
    ["pointerdown", "keydown", "wheel", "touchstart"].forEach((kind) => addEventListener(kind, () => clearInterval(sweep), { once: true, passive: true, capture: true }));

    keepStars();
    const starred = one("#starred");
    const refilter = filter(one("#filter"), cards.map((card) => card.row), (row) => !pressed(starred) || row.dataset.starred, one("#tally"), one("#nothing"), "samples");
    starred.addEventListener("click", () => { press(starred, !pressed(starred)); refilter(); });
    one("#sort").addEventListener("change", (event) => {
      const down = event.target.value.startsWith("-"), key = event.target.value.replace("-", "");
      const value = (card) => Number(card.row.dataset[key]) * (down ? -1 : 1);
      one("tbody", table).append(...[...cards].sort((a, b) => value(a) - value(b)).map((card) => card.row));
    });
    sizes(table);
  }

  function gridPage(grid) {
    const items = all("li", grid), viewer = one(".viewer"), picture = one("img", viewer), label = one(".viewer-name", viewer);
    let at = 0;
    const show = (index) => {
      const visible = items.filter((item) => !item.hidden);
      at = (index + visible.length) % visible.length;
      picture.src = one("img", visible[at]).src;
      picture.alt = label.textContent = visible[at].dataset.name;
      viewer.dataset.index = items.indexOf(visible[at]);
    };
    items.forEach((item) => {
      const image = one("img", item);
      const open = () => { show(items.filter((other) => !other.hidden).indexOf(item)); viewer.showModal(); };
      image.tabIndex = 0;
      image.setAttribute("role", "button");
      image.setAttribute("aria-label", `Enlarge ${item.dataset.name}`);
      image.addEventListener("click", open);
      image.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } });
    });
    all("[data-turn]", viewer).forEach((button) => button.addEventListener("click", () => show(at + Number(button.dataset.turn))));
    viewer.addEventListener("keydown", (event) => { if (event.key === "ArrowLeft") show(at - 1); if (event.key === "ArrowRight") show(at + 1); });
    viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
    one("[data-close]", viewer).addEventListener("click", () => viewer.close());
    one("[data-save]", viewer).addEventListener("click", () => save(jpegOf(picture), `${grid.dataset.stem}_${digits(viewer.dataset.index, 6)}.jpg`));
    filter(one("#find"), items, () => true, one("#tally"), one("#nothing"), "pictures");
    sizes(grid);
  }

  // a picture of a strip beside the first, and beside the style of its column if there is one, enlarged
  function enlarging(table) {
    const viewer = one(".viewer"), canvas = one("canvas", viewer), label = one(".viewer-name", viewer);
    const styles = one(".styles img", table);
    const heads = all("thead th", table).slice(1).map((head) => head.textContent);
    const show = (image, step) => {
      const width = image.naturalWidth / heads.length, height = image.naturalHeight;
      const scale = Math.max(1, Math.round(400 / width));
      const shown = styles ? [[image, 0], [styles, step - 1], [image, step]] : [[image, 0], [image, step]];
      canvas.width = shown.length * width * scale;
      canvas.height = height * scale;
      shown.forEach(([strip, from], to) => canvas.getContext("2d").drawImage(strip, from * width, 0, width, height, to * width * scale, 0, width * scale, height * scale));
      label.textContent = styles ? `${image.dataset.name}, ${heads[step]}, and the content with this style` : `${image.dataset.name}: ${heads[0]} and ${heads[step]}`;
      if (!viewer.open) viewer.showModal();
    };
    all("tbody img", table).forEach((image) => {
      let step = 1;
      image.tabIndex = 0;
      image.setAttribute("role", "button");
      image.addEventListener("click", (event) => {
        const box = image.getBoundingClientRect();
        step = Math.min(heads.length - 1, Math.max(1, Math.floor((event.clientX - box.left) / box.width * heads.length)));
        show(image, step);
      });
      image.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); show(image, step); } });
    });
    viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
    one("[data-close]", viewer).addEventListener("click", () => viewer.close());
  }

  function sortable(table) {
    const body = one("tbody", table);
    const first = [...body.rows];
    all("thead th[data-sort]", table).forEach((head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sorter";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const way = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way);
        const column = head.cellIndex, numeric = head.dataset.sort === "number";
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const order = (a, b) => numeric ? Number(value(a)) - Number(value(b)) : value(b).localeCompare(value(a));
        body.append(...[...first].sort((a, b) => (way === "descending" ? -1 : 1) * order(a, b)));
      });
    });
  }
})();
