// How a picture comes in: chosen, dropped, pasted, or from the camera.

import { startCamera, stopCamera, takeFrame } from "./camera.js";

const find = (id) => document.getElementById(id);

/** Give every picture that comes in to `look`, as Blob or canvas, with a name; faults to `fail`. */
export function connectInputs(look, fail) {
  const takeFile = (file) => file && look(file, file.name);
  find("file").addEventListener("change", ({ target }) => {
    takeFile(target.files[0]);
    target.value = "";
  });
  document.addEventListener("paste", (event) => takeFile(event.clipboardData.files[0]));
  connectDrop(takeFile, fail);
  connectCamera(look, fail);
}

function connectDrop(takeFile, fail) {
  const place = find("drop");
  // Anywhere on the page: the browser would open the file instead.
  for (const kind of ["dragenter", "dragover"]) {
    window.addEventListener(kind, (event) => {
      event.preventDefault();
      place.classList.add("over");
    });
  }
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) place.classList.remove("over");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) takeFile(file);
    else fail(new Error("what was dropped is no file. Save the picture, and choose it."));
  });
}

function connectCamera(look, fail) {
  const video = find("camera");
  const show = (on) => {
    video.hidden = find("camera-take").hidden = find("camera-off").hidden = !on;
    find("camera-on").hidden = on;
    find("preview").hidden = on || !find("preview").src;
    find("invitation").hidden = on || Boolean(find("preview").src);
  };
  const close = () => {
    stopCamera(video);
    show(false);
    find("camera-on").focus();
  };
  find("camera-on").addEventListener("click", async ({ target }) => {
    target.disabled = true;
    try {
      await startCamera(video);
      show(true);
      find("camera-take").focus();
    } catch (error) {
      fail(error);
    } finally {
      target.disabled = false;
    }
  });
  find("camera-off").addEventListener("click", close);
  find("camera-take").addEventListener("click", () => {
    const frame = takeFrame(video);
    close();
    look(frame, "from the camera");
  });
}
