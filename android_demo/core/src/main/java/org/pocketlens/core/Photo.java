package org.pocketlens.core;

/** An upright picture, as an encoder takes it: RGB bytes, row by row. */
public final class Photo {
    /** More pixels are not decoded. */
    public static final long MAX_PIXELS = 80_000_000L;

    private static final int MIN_SIDE = 16;
    // What a reduced decode must keep (encoder/images.py): pixels for each of the encoder's, and by
    // how many of the encoder's an edge may shift.
    private static final int MARGIN = 3;
    // A mean over squares blurs a little more than a JPEG decoder's reduction; the same as in the
    // browser (export/web/pixels.js). Smaller pictures are never reduced so.
    private static final int MEAN_MARGIN = 4;
    private static final int SMALL_PIXELS = 1 << 20;
    private static final double MAX_SHIFT = 0.04;
    private static final int CROP_STEPS = 1 << 16;

    public final int width;
    public final int height;
    final byte[] rgb;

    /** Takes RGB bytes, three for each pixel. */
    public Photo(int width, int height, byte[] rgb) {
        if (width < 1 || height < 1 || rgb.length != 3L * width * height) {
            throw new IllegalArgumentException("not " + width + " × " + height + " RGB pixels");
        }
        this.width = width;
        this.height = height;
        this.rgb = rgb;
    }

    /** Returns a picture of ARGB values as Android gives them; what is transparent lies on white. */
    public static Photo ofArgb(int[] argb, int width, int height) {
        byte[] rgb = new byte[3 * width * height];
        putArgb(argb, width * height, rgb, 0);
        return new Photo(width, height, rgb);
    }

    /** Writes so many ARGB values as RGB bytes from a place on; what is transparent lies on white. */
    public static void putArgb(int[] argb, int count, byte[] rgb, int from) {
        for (int i = 0; i < count; i++) {
            int alpha = argb[i] >>> 24;
            for (int c = 0; c < 3; c++) {
                int value = argb[i] >> (16 - 8 * c) & 255;
                rgb[from + 3 * i + c] = (byte) ((value * alpha + 255 * (255 - alpha) + 127) / 255);
            }
        }
    }

    /** Returns what is shown of the picture: every nth pixel, so that no side exceeds so many. */
    public Photo preview(int side) {
        int step = Math.max(1, (Math.max(width, height) + side - 1) / side);
        int wide = Math.max(1, width / step);
        int tall = Math.max(1, height / step);
        byte[] found = new byte[3 * wide * tall];
        for (int y = 0; y < tall; y++) {
            for (int x = 0; x < wide; x++) {
                int from = 3 * (y * step * width + x * step);
                System.arraycopy(rgb, from, found, 3 * (y * wide + x), 3);
            }
        }
        return new Photo(wide, tall, found);
    }

    /** Returns opaque ARGB values, to be shown. */
    public int[] toArgb() {
        int[] argb = new int[width * height];
        for (int i = 0; i < argb.length; i++) {
            int red = rgb[3 * i] & 255;
            argb[i] = 255 << 24 | red << 16 | (rgb[3 * i + 1] & 255) << 8 | rgb[3 * i + 2] & 255;
        }
        return argb;
    }

    /**
     * Returns how much of a side that a decoder has divided is kept.
     *
     * <p>Decoders round up; a last column or row of which the picture fills less than half is left
     * away, as in Python.
     */
    public static int keptSide(int side, int scale) {
        return Math.max(1, (int) Math.rint((double) side / scale));
    }

    /**
     * Returns by what the sides may be divided while decoding: 8, 4, 2 or 1.
     *
     * <p>The most that the encoder cannot tell. Of a JPEG, Android's inSampleSize decodes so.
     */
    public static int chooseScale(int width, int height, Contract contract) {
        return chooseScale(width, height, contract.size, contract.crop, MARGIN);
    }

    static int chooseScale(int width, int height, int size, double crop, int margin) {
        int least = Math.min(width, height);
        long steps = Math.round(crop * CROP_STEPS);
        long needed = Math.max(1, (least * steps + CROP_STEPS / 2) / CROP_STEPS);
        for (int scale = 8; scale > 1; scale /= 2) {
            double off = Math.max(offset(width, scale), offset(height, scale));
            boolean still = off * size / least <= MAX_SHIFT;
            if (needed / scale >= (long) margin * size && still) {
                return scale;
            }
        }
        return 1;
    }

    private static double offset(int side, int scale) {
        return Math.abs(Math.rint((double) side / scale) * scale - side);
    }

    /** Returns the picture reduced by means, where it is large, as far as the encoder cannot tell. */
    public Photo reducedFor(Contract contract) {
        if ((long) width * height <= SMALL_PIXELS) {
            return this;
        }
        return reduced(chooseScale(width, height, contract.size, contract.crop, MEAN_MARGIN));
    }

    /** Returns the picture with its sides divided, each pixel the mean of scale × scale ones. */
    Photo reduced(int scale) {
        if (scale == 1) {
            return this;
        }
        int wide = Math.max(1, (width + scale / 2) / scale);
        int tall = Math.max(1, (height + scale / 2) / scale);
        byte[] found = new byte[3 * wide * tall];
        for (int y = 0; y < tall; y++) {
            for (int x = 0; x < wide; x++) {
                average(x * scale, y * scale, scale, found, 3 * (y * wide + x));
            }
        }
        return new Photo(wide, tall, found);
    }

    private void average(int left, int top, int scale, byte[] found, int to) {
        int right = Math.min(left + scale, width);
        int bottom = Math.min(top + scale, height);
        int count = (right - left) * (bottom - top);
        for (int c = 0; c < 3; c++) {
            int sum = 0;
            for (int y = top; y < bottom; y++) {
                for (int x = left; x < right; x++) {
                    sum += rgb[3 * (y * width + x) + c] & 255;
                }
            }
            found[to + c] = (byte) ((sum + count / 2) / count);
        }
    }

    /** Returns the picture upright, by the EXIF orientation (1 to 8; others are taken as 1). */
    public Photo upright(int orientation) {
        boolean swapped = orientation >= 5 && orientation <= 8;
        if (orientation < 2 || orientation > 8) {
            return this;
        }
        int wide = swapped ? height : width;
        int tall = swapped ? width : height;
        byte[] found = new byte[rgb.length];
        for (int y = 0; y < tall; y++) {
            for (int x = 0; x < wide; x++) {
                int from = 3 * source(x, y, orientation);
                System.arraycopy(rgb, from, found, 3 * (y * wide + x), 3);
            }
        }
        return new Photo(wide, tall, found);
    }

    /** Returns which stored pixel is seen at x, y of the upright picture. */
    private int source(int x, int y, int orientation) {
        int right = width - 1;
        int bottom = height - 1;
        switch (orientation) {
            case 2:
                return y * width + right - x;
            case 3:
                return (bottom - y) * width + right - x;
            case 4:
                return (bottom - y) * width + x;
            case 5:
                return x * width + y;
            case 6:
                return (bottom - x) * width + y;
            case 7:
                return (bottom - x) * width + right - y;
            default:
                return x * width + right - y;
        }
    }

    /** Returns a picture that an encoder takes: sides below 16 pixels are enlarged. */
    Photo enlarged() {
        if (Math.min(width, height) >= MIN_SIDE) {
            return this;
        }
        int wide = Math.max(width, MIN_SIDE);
        int tall = Math.max(height, MIN_SIDE);
        byte[] found = new byte[3 * wide * tall];
        for (int y = 0; y < tall; y++) {
            for (int x = 0; x < wide; x++) {
                interpolate((x + 0.5) * width / wide - 0.5, (y + 0.5) * height / tall - 0.5,
                        found, 3 * (y * wide + x));
            }
        }
        return new Photo(wide, tall, found);
    }

    private void interpolate(double x, double y, byte[] found, int to) {
        int left = (int) Math.floor(x);
        int top = (int) Math.floor(y);
        for (int c = 0; c < 3; c++) {
            double upper = mix(at(left, top, c), at(left + 1, top, c), x - left);
            double lower = mix(at(left, top + 1, c), at(left + 1, top + 1, c), x - left);
            found[to + c] = (byte) Math.round(mix(upper, lower, y - top));
        }
    }

    private static double mix(double first, double second, double share) {
        return first + (second - first) * share;
    }

    private int at(int x, int y, int channel) {
        int column = Math.min(Math.max(x, 0), width - 1);
        int row = Math.min(Math.max(y, 0), height - 1);
        return rgb[3 * (row * width + column) + channel] & 255;
    }

    /** Returns the small picture whose vector is known, the same everywhere (export/contract.py). */
    static Photo probe() {
        int wide = 80;
        int tall = 64;
        byte[] found = new byte[3 * wide * tall];
        for (int y = 0; y < tall; y++) {
            for (int x = 0; x < wide; x++) {
                int across = (x - 40) * (x - 40);
                int[] colours = {2 * x + y, x * y / 8 + 40, across / 6 + (y - 32) * (y - 32) / 4};
                for (int c = 0; c < 3; c++) {
                    found[3 * (y * wide + x) + c] = (byte) Math.min(colours[c], 255);
                }
            }
        }
        return new Photo(wide, tall, found);
    }
}
