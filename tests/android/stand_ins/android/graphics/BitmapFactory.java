package android.graphics;

import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
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

    /** As Android's, but that pictures are not reduced: those of the test are small. */
    public static Bitmap decodeStream(InputStream in, Rect padding, Options options) {
        try {
            BufferedImage image = ImageIO.read(in);
            options.outWidth = image == null ? -1 : image.getWidth();
            options.outHeight = image == null ? -1 : image.getHeight();
            if (options.inSampleSize > 1) {
                throw new IllegalStateException("a small picture need not be reduced");
            }
            return image == null || options.inJustDecodeBounds ? null : new Bitmap(image);
        } catch (IOException error) {
            return null;
        }
    }

    public static Bitmap decodeByteArray(byte[] data, int offset, int length) {
        Options options = new Options();
        return decodeStream(new ByteArrayInputStream(data, offset, length), null, options);
    }
}
