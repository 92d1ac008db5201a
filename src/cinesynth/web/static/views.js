// Two ways to draw the same: NiiVue with WebGL 2, or one slice on a plain canvas.
import { readVolume } from "./nifti.js";
import { NVImage, Niivue, SLICE_TYPE } from "./vendor/niivue-0.69.0.js";

export const COLOURS = { 1: [86, 180, 233], 2: [240, 190, 40], 3: [230, 70, 80] };
const TABLE = { R: [0, 86, 240, 230], G: [0, 180, 190, 70], B: [0, 233, 40, 80], A: [0, 255, 255, 255], labels: ["", "RV", "MYO", "LV"] };
const LAYOUTS = { short: SLICE_TYPE.AXIAL, planes: SLICE_TYPE.MULTIPLANAR };

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

export class GLView {
  constructor(canvas, onMove) {
    this.canvas = canvas;
    this.nv = new Niivue({
      backColor: [0, 0, 0, 1], dragAndDropEnabled: false, isColorbar: false, loadingText: "", logLevel: "error",
      isNearestInterpolation: false, crosshairWidth: 0, crosshairWidthUnit: "mm", crosshairColor: [1, 1, 1, 0.7], isOrientationTextVisible: false,
      multiplanarShowRender: 0, isRuler: false, show3Dcrosshair: false,
    });
    this.nv.onLocationChange = (place) => onMove(place);
  }

  // Masks are two volumes, of which one is seen: filled, and their outlines.
  async load(image, label, window) {
    if (!this.attached) { await this.nv.attachToCanvas(this.canvas); this.attached = true; }
    for (const volume of [...this.nv.volumes]) this.nv.removeVolume(volume);
    const base = await NVImage.loadFromUrl({ url: image, name: "image.nii", colormap: "gray", cal_min: window.dark, cal_max: window.bright });
    this.nv.addVolume(base);
    if (label) {
      for (const masks of [label, outlined(label)]) {
        const drawn = await NVImage.loadFromUrl({ url: masks, name: "label.nii", opacity: 0 });
        drawn.setColormapLabel(TABLE);
        this.nv.addVolume(drawn);
      }
    }
    this.layout("short");
  }

  frame(t) { for (const volume of this.nv.volumes) this.nv.setFrame4D(volume.id, Math.min(t, volume.nFrame4D - 1)); }
  slice(z, slices) { this.nv.scene.crosshairPos[2] = (z + 0.5) / slices; this.nv.createOnLocationChange(); this.nv.drawScene(); }
  get shownSlice() { return this.nv.scene.crosshairPos[2]; }
  overlay(mode, opacity) {
    if (this.nv.volumes.length < 3) return;
    this.nv.setOpacity(1, mode === "fill" ? opacity : 0);
    this.nv.setOpacity(2, mode === "outline" ? opacity : 0);
  }
  window(low, high) {
    if (!this.nv.volumes.length) return;
    this.nv.volumes[0].cal_min = low;
    this.nv.volumes[0].cal_max = high;
    this.nv.updateGLVolume();
  }
  layout(name) {
    this.nv.opts.crosshairWidth = name === "planes" ? 0.7 : 0;
    this.nv.setSliceType(LAYOUTS[name]);
  }
}

export class PlainView {
  constructor(canvas, onMove) {
    this.canvas = canvas;
    this.state = { t: 0, z: 0, mode: "outline", opacity: 1, low: 0, high: 1 };
    canvas.addEventListener("pointermove", (event) => {
      if (!this.volume) return;
      const [x, y] = this.voxel(event), { spacing } = this.volume;
      if (x >= 0) onMove({ string: `${(x * spacing[0]).toFixed(0)} × ${(y * spacing[1]).toFixed(0)} mm` });
    });
  }

  async load(image, label, window, volume, labels) {
    Object.assign(this, { volume, labels });
    Object.assign(this.state, { low: window.dark, high: window.bright });
    this.draw();
  }

  frame(t) { this.state.t = t; this.draw(); }
  slice(z) { this.state.z = z; this.draw(); }
  overlay(mode, opacity) { Object.assign(this.state, { mode, opacity }); this.draw(); }
  window(low, high) { Object.assign(this.state, { low, high }); this.draw(); }
  layout() {}

  voxel(event) {
    const box = this.canvas.getBoundingClientRect(), scale = this.scale;
    if (!scale) return [-1, -1];
    const x = ((event.clientX - box.left) * this.canvas.width / box.width - scale.left) / scale.x;
    const y = ((event.clientY - box.top) * this.canvas.height / box.height - scale.top) / scale.y;
    const [width, height] = this.volume.size;
    return x < 0 || y < 0 || x >= width || y >= height ? [-1, -1] : [x, y];
  }

  draw() {
    if (!this.volume) return;
    const { size: [width, height, depth], frames, data, spacing } = this.volume, { t, z, mode, opacity, low, high } = this.state;
    const from = (Math.min(t, frames - 1) * depth + z) * width * height, picture = new ImageData(width, height);
    const label = this.labels && ((Math.min(t, this.labels.frames - 1) * depth + z) * width * height);
    const at = (i) => this.labels.data[label + i];
    for (let i = 0; i < width * height; i++) {
      const grey = 255 * (data[from + i] - low) / (high - low), k = 4 * i;
      let colour = [grey, grey, grey];
      if (this.labels && mode !== "none" && at(i)) {
        const edge = [1, -1, width, -width].some((step) => at(i + step) < at(i));
        const share = mode === "fill" ? opacity : edge ? opacity : 0;
        colour = colour.map((value, c) => value * (1 - share) + COLOURS[at(i)][c] * share);
      }
      picture.data.set([...colour, 255], k);
    }
    const box = this.canvas.getBoundingClientRect(), small = new OffscreenCanvas(width, height), ratio = devicePixelRatio || 1;
    small.getContext("2d").putImageData(picture, 0, 0);
    this.canvas.width = box.width * ratio;
    this.canvas.height = box.height * ratio;
    const fit = Math.min(this.canvas.width / (width * spacing[0]), this.canvas.height / (height * spacing[1]));
    this.scale = { x: fit * spacing[0], y: fit * spacing[1] };
    this.scale.left = (this.canvas.width - width * this.scale.x) / 2;
    this.scale.top = (this.canvas.height - height * this.scale.y) / 2;
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, this.scale.left, this.scale.top, width * this.scale.x, height * this.scale.y);
  }
}
