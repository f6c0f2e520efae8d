package org.pocketlens.core;

import java.util.List;
import java.util.Map;

/** What an encoder file says of itself, in its metadata (docs/formats.md). */
public final class Contract {
    static final String KEY = "pocketlens";
    private static final double FORMAT = 1;

    /** The embedding space: a server compares no others. */
    public final String space;
    /** The digest of the encoder. */
    public final String encoder;
    public final String precision;
    /** Side of the square that the network sees, in pixels. */
    public final int size;
    /** The part of the picture's sides that is used. */
    public final double crop;
    public final int dim;
    /** The vector of the probe picture, where 8-bit products may be computed wrongly; or null. */
    final float[] probe;

    private Contract(Map<?, ?> value) {
        Map<?, ?> preprocess = (Map<?, ?>) value.get("preprocess");
        space = (String) ((Map<?, ?>) value.get("space")).get("id");
        encoder = (String) value.get("encoder");
        precision = (String) value.get("precision");
        size = ((Double) preprocess.get("size")).intValue();
        crop = (Double) preprocess.get("crop");
        dim = ((Double) ((Map<?, ?>) value.get("output")).get("dim")).intValue();
        List<?> given = (List<?>) value.get("probe");
        probe = given == null ? null : new float[given.size()];
        for (int i = 0; given != null && i < probe.length; i++) {
            probe[i] = ((Double) given.get(i)).floatValue();
        }
    }

    /**
     * Reads the contract of an encoder of photos to float vectors.
     *
     * @param text what stands under "pocketlens" in the file's metadata
     * @param name the file, for messages
     */
    static Contract read(String text, String name) throws LensException {
        try {
            Map<?, ?> value = (Map<?, ?>) Json.parse(text);
            if (!Double.valueOf(FORMAT).equals(value.get("format"))) {
                throw new LensException(name + ": of a newer format; update the app");
            }
            Object form = ((Map<?, ?>) value.get("output")).get("form");
            if (!"photo".equals(value.get("kind")) || !"float".equals(form)) {
                throw new LensException(name + ": not an encoder of photos to float vectors");
            }
            return new Contract(value);
        } catch (IllegalArgumentException | ClassCastException | NullPointerException error) {
            throw new LensException(name + ": its metadata is damaged", error);
        }
    }
}
