package android.graphics;

import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import javax.imageio.ImageIO;

public class BitmapFactory {
    public static class Options {
        public boolean inJustDecodeBounds;
        public int inSampleSize;
        public int outWidth;
        public int outHeight;
        public String outMimeType;
    }

    /** As Android's, which reduces JPEGs by means, and rounds their sides up. */
    public static Bitmap decodeStream(InputStream in, Rect padding, Options options) {
        try {
            byte[] data = readAll(in);
            String type = data.length > 1 && (data[0] & 255) == 0xff ? "jpeg" : "png";
            BufferedImage image = ImageIO.read(new ByteArrayInputStream(data));
            options.outWidth = image == null ? -1 : image.getWidth();
            options.outHeight = image == null ? -1 : image.getHeight();
            options.outMimeType = image == null ? null : "image/" + type;
            if (image == null || options.inJustDecodeBounds) {
                return null;
            }
            return new Bitmap(reduce(image, Math.max(1, options.inSampleSize)));
        } catch (IOException error) {
            return null;
        }
    }

    private static byte[] readAll(InputStream in) throws IOException {
        ByteArrayOutputStream found = new ByteArrayOutputStream();
        for (int value = in.read(); value >= 0; value = in.read()) {
            found.write(value);
        }
        return found.toByteArray();
    }

    private static BufferedImage reduce(BufferedImage image, int scale) {
        int wide = (image.getWidth() + scale - 1) / scale;
        int tall = (image.getHeight() + scale - 1) / scale;
        BufferedImage found = new BufferedImage(wide, tall, BufferedImage.TYPE_INT_ARGB);
        for (int y = 0; y < tall; y++) {
            for (int x = 0; x < wide; x++) {
                int[] sums = new int[4];
                for (int i = 0; i < scale * scale; i++) {
                    // Beyond the edge, decoders repeat it.
                    int column = Math.min(x * scale + i % scale, image.getWidth() - 1);
                    int row = Math.min(y * scale + i / scale, image.getHeight() - 1);
                    int argb = image.getRGB(column, row);
                    for (int c = 0; c < 4; c++) {
                        sums[c] += argb >>> (24 - 8 * c) & 255;
                    }
                }
                int mean = 0;
                for (int sum : sums) {
                    mean = mean << 8 | (sum + scale * scale / 2) / (scale * scale);
                }
                found.setRGB(x, y, mean);
            }
        }
        return found;
    }

    public static Bitmap decodeByteArray(byte[] data, int offset, int length) {
        Options options = new Options();
        return decodeStream(new ByteArrayInputStream(data, offset, length), null, options);
    }
}
