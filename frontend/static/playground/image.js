// Images as ink: row-major numbers from 0 (paper) to 1 (ink), as MNIST has them.
"use strict";

window.Playground ??= {};

Playground.image = (() => {
  const FAINT = 0.1;

  /** Ink from a canvas whose opacity is the ink. */
  const fromCanvas = (canvas) => {
    const { width, height } = canvas;
    const pixels = canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, width, height).data;
    const ink = new Float32Array(width * height);
    for (let i = 0; i < ink.length; i += 1) ink[i] = pixels[4 * i + 3] / 255;
    return { width, height, ink };
  };

  /** Puts ink on a canvas, as black of that opacity, scaled to fill it. */
  const toCanvas = (canvas, { width, height, ink }) => {
    const small = document.createElement("canvas");
    small.width = width;
    small.height = height;
    const pixels = new ImageData(width, height);
    for (let i = 0; i < ink.length; i += 1) pixels.data[4 * i + 3] = Math.round(255 * Math.min(1, Math.max(0, ink[i])));
    small.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.clearRect(0, 0, canvas.width, canvas.height);
    const scale = Math.min(canvas.width / width, canvas.height / height);
    const [w, h] = [width * scale, height * scale];
    context.drawImage(small, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
  };

  /** Ink from a picture of any size and colours: what differs from the paper, which is what its border mostly shows. */
  const fromFile = async (file, most = 560) => {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, most / Math.max(bitmap.width, bitmap.height));
    const width = Math.max(1, Math.round(bitmap.width * scale));
    const height = Math.max(1, Math.round(bitmap.height * scale));
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0, width, height);
    bitmap.close();
    const pixels = context.getImageData(0, 0, width, height).data;
    const light = new Float32Array(width * height);
    for (let i = 0; i < light.length; i += 1) {
      light[i] = (0.2126 * pixels[4 * i] + 0.7152 * pixels[4 * i + 1] + 0.0722 * pixels[4 * i + 2]) / 255;
    }
    const border = [];
    for (let x = 0; x < width; x += 1) border.push(light[x], light[(height - 1) * width + x]);
    for (let y = 0; y < height; y += 1) border.push(light[y * width], light[y * width + width - 1]);
    border.sort((a, b) => a - b);
    const paper = border[border.length >> 1];
    const ink = light.map((value) => Math.abs(value - paper));
    const darkest = ink.reduce((most, value) => Math.max(most, value), 0);
    // Shades of the paper itself are not ink: the lowest fifth is cut off.
    return { width, height, ink: ink.map((value) => Math.max(0, (value / (darkest || 1) - 0.2) / 0.8)) };
  };

  /** Means over `to` equal stretches of a line of `from` numbers, each stretch weighing its parts. */
  const stretches = (from, to, read, write) => {
    const step = from / to;
    for (let i = 0; i < to; i += 1) {
      const [start, end] = [i * step, (i + 1) * step];
      let sum = 0;
      for (let j = Math.floor(start); j < Math.min(from, Math.ceil(end)); j += 1) {
        sum += read(j) * (Math.min(j + 1, end) - Math.max(j, start));
      }
      write(i, sum / step);
    }
  };

  /**
   * As MNIST was made: the ink's box scaled to 20 of 28, its centre of mass in the middle. Null for an empty sheet.
   * Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.
   */
  const normalise = ({ width, height, ink }, size = 28) => {
    let [left, top, right, bottom] = [width, height, -1, -1];
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        if (ink[y * width + x] <= FAINT) continue;
        left = Math.min(left, x);
        right = Math.max(right, x);
        top = Math.min(top, y);
        bottom = Math.max(bottom, y);
      }
    }
    if (right < 0) return null;
    const [w, h] = [right - left + 1, bottom - top + 1];
    const scale = (size * 20) / 28 / Math.max(w, h);
    const [tw, th] = [Math.max(1, Math.round(w * scale)), Math.max(1, Math.round(h * scale))];
    const narrow = new Float32Array(tw * h);
    for (let y = 0; y < h; y += 1) {
      stretches(w, tw, (x) => ink[(top + y) * width + left + x], (x, value) => { narrow[y * tw + x] = value; });
    }
    const box = new Float32Array(tw * th);
    for (let x = 0; x < tw; x += 1) {
      stretches(h, th, (y) => narrow[y * tw + x], (y, value) => { box[y * tw + x] = value; });
    }
    let [mass, mx, my] = [0, 0, 0];
    box.forEach((value, i) => {
      mass += value;
      mx += value * ((i % tw) + 0.5);
      my += value * (Math.floor(i / tw) + 0.5);
    });
    const [dx, dy] = [Math.round(size / 2 - mx / mass), Math.round(size / 2 - my / mass)];
    const result = new Float32Array(size * size);
    box.forEach((value, i) => {
      const [x, y] = [(i % tw) + dx, Math.floor(i / tw) + dy];
      if (x >= 0 && x < size && y >= 0 && y < size) result[y * size + x] = Math.min(1, value);
    });
    return { width: size, height: size, ink: result };
  };

  return { fromCanvas, fromFile, normalise, toCanvas };
})();
