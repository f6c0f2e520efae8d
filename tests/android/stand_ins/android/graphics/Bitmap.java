package android.graphics;

import java.awt.image.BufferedImage;

public final class Bitmap {
    public enum Config {
        ARGB_8888
    }

    final BufferedImage image;

    Bitmap(BufferedImage image) {
        this.image = image;
    }

    public static Bitmap createBitmap(int[] argb, int width, int height, Config config) {
        BufferedImage image = new BufferedImage(width, height, BufferedImage.TYPE_INT_ARGB);
        image.setRGB(0, 0, width, height, argb, 0, width);
        return new Bitmap(image);
    }

    public int getWidth() {
        return image.getWidth();
    }

    public int getHeight() {
        return image.getHeight();
    }

    public void getPixels(int[] to, int offset, int stride, int x, int y, int wide, int tall) {
        image.getRGB(x, y, wide, tall, to, offset, stride);
    }

    public Config getConfig() {
        return Config.ARGB_8888;
    }

    public void setColorSpace(ColorSpace space) {
        throw new IllegalStateException("not at this version");
    }

    public void recycle() {}
}
