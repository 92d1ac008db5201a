// Two ways to draw a heart: a slice on a plain canvas, which is fast everywhere, and three planes by NiiVue.
import { readVolume } from "./nifti.js";
import { NVImage, Niivue, SLICE_TYPE } from "./vendor/niivue-0.69.0.js";

export const COLOURS = { 1: [86, 180, 233], 2: [240, 190, 40], 3: [230, 70, 80] };
const TABLE = { R: [0, 86, 240, 230], G: [0, 180, 190, 70], B: [0, 233, 40, 80], A: [0, 255, 255, 255], labels: ["", "RV", "MYO", "LV"] };

export const hasWebGL2 = () => {
  if (new URLSearchParams(location.search).has("plain")) return false;
  return Boolean(document.createElement("canvas").getContext("webgl2"));
};

// The outermost voxels of the masks in the plane, in a copy of the file; where two touch, those of the inner one.
function outlined(buffer) {
  const copy = buffer.slice(0), { size: [width, height], data } = readVolume(copy), whole = readVolume(buffer).data;
  for (let i = 0; i < data.length; i++) {
    const value = whole[i], x = i % width, y = Math.floor(i / width) % height;
    const inside = x > 0 && x < width - 1 && y > 0 && y < height - 1
      && whole[i - 1] >= value && whole[i + 1] >= value && whole[i - width] >= value && whole[i + width] >= value;
    if (inside) data[i] = 0;
  }
  return copy;
}

export class PlanesView {
  constructor(canvas, onMove) {
    this.canvas = canvas;
    this.nv = new Niivue({
      backColor: [0, 0, 0, 1], dragAndDropEnabled: false, isColorbar: false, loadingText: "", logLevel: "error",
      crosshairWidth: 0.7, crosshairWidthUnit: "mm", crosshairColor: [1, 1, 1, 0.7], isOrientationTextVisible: false,
      multiplanarShowRender: 0, isRuler: false, show3Dcrosshair: false,
    });
    this.nv.onLocationChange = (place) => onMove([...place.mm].slice(0, 3), this.nv.scene.crosshairPos[2]);
  }

  // Masks are two volumes, filled and their outlines, of which one at most is in the scene: every one costs time.
  async load({ buffers: [image, label], window }) {
    if (!this.attached) { await this.nv.attachToCanvas(this.canvas); this.attached = true; }
    for (const volume of [...this.nv.volumes]) this.nv.removeVolume(volume);
    this.nv.addVolume(await NVImage.loadFromUrl({ url: image, name: "image.nii", colormap: "gray", cal_min: window.dark, cal_max: window.bright }));
    this.masks = {};
    for (const [mode, masks] of Object.entries({ fill: label, outline: outlined(label) })) {
      this.masks[mode] = await NVImage.loadFromUrl({ url: masks, name: "label.nii" });
      this.masks[mode].setColormapLabel(TABLE);
    }
    this.nv.setSliceType(SLICE_TYPE.MULTIPLANAR);
  }

  frame(t) {
    this.t = t;
    for (const volume of this.nv.volumes) volume.frame4D = Math.min(t, volume.nFrame4D - 1);
    this.nv.updateGLVolume();
  }

  slice(z, slices) { this.nv.scene.crosshairPos[2] = (z + 0.5) / slices; this.nv.createOnLocationChange(); this.nv.drawScene(); }

  overlay(mode, opacity) {
    const wanted = this.masks[mode], shown = this.nv.volumes[1];
    if (shown && shown !== wanted) this.nv.removeVolume(shown);
    if (!wanted) return;
    if (shown !== wanted) { wanted.frame4D = Math.min(this.t ?? 0, wanted.nFrame4D - 1); this.nv.addVolume(wanted); }
    this.nv.setOpacity(1, opacity);
  }

  window(low, high) {
    Object.assign(this.nv.volumes[0], { cal_min: low, cal_max: high });
    this.nv.updateGLVolume();
  }
}

export class SliceView {
  constructor(canvas, onMove) {
    this.canvas = canvas;
    this.small = document.createElement("canvas");
    canvas.addEventListener("pointermove", (event) => {
      const place = this.volume && this.voxel(event);
      if (place) onMove([...place.map((at, i) => at * this.volume.spacing[i]), this.z * this.volume.spacing[2]]);
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  async load({ volume, labels, window }) {
    Object.assign(this, { volume, labels, t: 0, z: 0, mode: "outline", opacity: 1, low: window.dark, high: window.bright });
    [this.small.width, this.small.height] = volume.size;
    this.picture = new ImageData(...volume.size.slice(0, 2));
  }

  frame(t) { this.t = t; this.draw(); }
  slice(z) { this.z = z; this.draw(); }
  overlay(mode, opacity) { Object.assign(this, { mode, opacity }); this.draw(); }
  window(low, high) { Object.assign(this, { low, high }); this.draw(); }

  voxel(event) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / box.width, { scale } = this;
    const x = ((event.clientX - box.left) * ratio - scale.left) / scale.x, y = ((event.clientY - box.top) * ratio - scale.top) / scale.y;
    const [width, height] = this.volume.size;
    return x < 0 || y < 0 || x >= width || y >= height ? null : [x, y];
  }

  plane({ size: [width, height, depth], frames, data }) {
    const from = (Math.min(this.t, frames - 1) * depth + this.z) * width * height;
    return data.subarray(from, from + width * height);
  }

  draw() {
    const box = this.canvas.getBoundingClientRect();
    if (!this.volume || !box.width) return;
    const { size: [width, height], spacing } = this.volume, ratio = devicePixelRatio || 1, mask = this.plane(this.labels);
    this.paint(this.plane(this.volume), mask);
    Object.assign(this.canvas, { width: Math.round(box.width * ratio), height: Math.round(box.height * ratio) });
    const fit = Math.min(this.canvas.width / (width * spacing[0]), this.canvas.height / (height * spacing[1]));
    const scale = { x: fit * spacing[0], y: fit * spacing[1] };
    scale.left = (this.canvas.width - width * scale.x) / 2;
    scale.top = (this.canvas.height - height * scale.y) / 2;
    this.scale = scale;
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.small, scale.left, scale.top, width * scale.x, height * scale.y);
    if (this.mode === "outline") this.outline(context, mask, width, height);
  }

  paint(grey, mask) {
    const pixels = this.picture.data, factor = 255 / (this.high - this.low), filled = this.mode === "fill" ? this.opacity : 0;
    for (let i = 0, k = 0; i < grey.length; i++, k += 4) {
      const value = (grey[i] - this.low) * factor, colour = filled && COLOURS[mask[i]];
      for (let c = 0; c < 3; c++) pixels[k + c] = colour ? value * (1 - filled) + colour[c] * filled : value;
      pixels[k + 3] = 255;
    }
    this.small.getContext("2d").putImageData(this.picture, 0, 0);
  }

  // Along the edges of voxels; where two structures touch, in the colour of the inner one.
  outline(context, mask, width, height) {
    const lines = { 1: new Path2D(), 2: new Path2D(), 3: new Path2D() }, { x: sx, y: sy, left, top } = this.scale;
    for (let y = 1, i = width; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (x && mask[i] !== mask[i - 1]) {
          const line = lines[Math.max(mask[i], mask[i - 1])];
          line.moveTo(left + x * sx, top + y * sy);
          line.lineTo(left + x * sx, top + (y + 1) * sy);
        }
        if (mask[i] !== mask[i - width]) {
          const line = lines[Math.max(mask[i], mask[i - width])];
          line.moveTo(left + x * sx, top + y * sy);
          line.lineTo(left + (x + 1) * sx, top + y * sy);
        }
      }
    }
    Object.assign(context, { globalAlpha: this.opacity, lineWidth: 1.6 * (devicePixelRatio || 1), lineCap: "round" });
    for (const [structure, line] of Object.entries(lines)) {
      context.strokeStyle = `rgb(${COLOURS[structure]})`;
      context.stroke(line);
    }
    context.globalAlpha = 1;
  }
}
