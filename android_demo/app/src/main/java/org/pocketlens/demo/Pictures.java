package org.pocketlens.demo;

import android.content.ContentResolver;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.graphics.ColorSpace;
import android.media.ExifInterface;
import android.net.Uri;
import android.os.Build;
import java.io.IOException;
import java.io.InputStream;
import org.pocketlens.core.Contract;
import org.pocketlens.core.LensException;
import org.pocketlens.core.Photo;

/** Reads pictures that the user chose, no larger than the encoder needs. */
final class Pictures {
    private static final String JPEG = "image/jpeg";

    private Pictures() {}

    /** Returns the picture at an address, upright and reduced as the encoder allows. */
    static Photo read(ContentResolver resolver, Uri uri, Contract contract) throws LensException {
        try {
            BitmapFactory.Options bounds = new BitmapFactory.Options();
            bounds.inJustDecodeBounds = true;
            decode(resolver, uri, bounds);
            if (bounds.outWidth <= 0 || bounds.outHeight <= 0) {
                throw new LensException("this is not a picture that can be read, or is damaged");
            }
            if ((long) bounds.outWidth * bounds.outHeight > Photo.MAX_PIXELS) {
                throw new LensException(
                        "the picture has " + bounds.outWidth + "×" + bounds.outHeight
                                + " pixels; at most 80 million are decoded");
            }
            // Only of JPEGs does Android take means; of others it would leave pixels out.
            boolean reducible = JPEG.equals(bounds.outMimeType);
            BitmapFactory.Options options = new BitmapFactory.Options();
            int scale = Photo.chooseScale(bounds.outWidth, bounds.outHeight, contract);
            options.inSampleSize = reducible ? scale : 1;
            Bitmap bitmap = decode(resolver, uri, options);
            if (bitmap == null) {
                throw new LensException("this is not a picture that can be read, or is damaged");
            }
            Photo photo = take(
                    bitmap, Photo.keptSide(bounds.outWidth, options.inSampleSize),
                    Photo.keptSide(bounds.outHeight, options.inSampleSize));
            bitmap.recycle();
            Photo small = reducible ? photo : photo.reducedFor(contract);
            return small.upright(readOrientation(resolver, uri));
        } catch (IOException | SecurityException error) {
            throw new LensException("the picture cannot be opened", error);
        } catch (OutOfMemoryError error) {
            throw new LensException("the picture is too large for this device", error);
        }
    }

    /** Returns the pixels of a bitmap, row by row: large ones need not lie in memory twice. */
    private static Photo take(Bitmap bitmap, int mostWide, int mostTall) {
        if (Build.VERSION.SDK_INT >= 29 && bitmap.getConfig() == Bitmap.Config.ARGB_8888) {
            // The values as they are stored, as on every other platform, not turned into sRGB.
            bitmap.setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB));
        }
        int width = Math.min(bitmap.getWidth(), mostWide);
        int height = Math.min(bitmap.getHeight(), mostTall);
        byte[] rgb = new byte[3 * width * height];
        int[] row = new int[width];
        for (int y = 0; y < height; y++) {
            bitmap.getPixels(row, 0, width, 0, y, width, 1);
            Photo.putArgb(row, width, rgb, 3 * width * y);
        }
        return new Photo(width, height, rgb);
    }

    private static Bitmap decode(ContentResolver resolver, Uri uri, BitmapFactory.Options options)
            throws IOException {
        try (InputStream in = open(resolver, uri)) {
            return BitmapFactory.decodeStream(in, null, options);
        }
    }

    private static int readOrientation(ContentResolver resolver, Uri uri) {
        try (InputStream in = open(resolver, uri)) {
            return new ExifInterface(in).getAttributeInt(ExifInterface.TAG_ORIENTATION, 1);
        } catch (IOException | RuntimeException error) {
            // Without EXIF, or with a damaged one: as viewers show it.
            return 1;
        }
    }

    private static InputStream open(ContentResolver resolver, Uri uri) throws IOException {
        InputStream in = resolver.openInputStream(uri);
        if (in == null) {
            throw new IOException("nothing at " + uri);
        }
        return in;
    }
}
