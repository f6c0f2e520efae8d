// The device's camera, shown in a video element until a frame is taken.

export class CameraError extends Error {}

/** Start the camera that looks away from the user, where there is one. */
export async function startCamera(video) {
  if (!navigator.mediaDevices) {
    throw new CameraError("The camera needs a secure page: https, or this machine itself.");
  }
  try {
    const wanted = { facingMode: "environment", width: { ideal: 1280 } };
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: wanted });
    await video.play();
  } catch (error) {
    stopCamera(video);
    if (error.name === "NotAllowedError") {
      throw new CameraError(
        "The camera was not allowed. Allow it in the browser's settings, or choose a picture.",
      );
    }
    throw new CameraError("No camera could be opened. Choose a picture instead.");
  }
}

/** Return what the camera sees, on a canvas. */
export function takeFrame(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas;
}

/** Stop the camera. */
export function stopCamera(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}
