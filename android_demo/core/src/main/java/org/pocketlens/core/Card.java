package org.pocketlens.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/** Which encoders a bundle holds: those that answer searches of whole vectors, the best first. */
public final class Card {
    /** One encoder file. */
    public static final class Entry {
        public final String file;
        public final String encoder;
        public final String precision;
        public final int size;
        final long bytes;
        final double nearness;

        Entry(Map<?, ?> value) {
            file = (String) value.get("file");
            encoder = (String) value.get("encoder");
            precision = (String) value.get("precision");
            size = ((Double) value.get("size")).intValue();
            bytes = ((Double) value.get("bytes")).longValue();
            Map<?, ?> alignment = (Map<?, ?>) value.get("alignment");
            nearness = alignment == null ? 0 : (Double) alignment.get("mean_cosine");
        }

        private int exactness() {
            return precision.equals("fp32") ? 2 : precision.equals("fp16") ? 1 : 0;
        }
    }

    public final String space;
    public final int dim;
    public final List<Entry> entries;

    private Card(String space, int dim, List<Entry> entries) {
        this.space = space;
        this.dim = dim;
        this.entries = Collections.unmodifiableList(entries);
    }

    /** Reads the text of card.json. */
    public static Card read(String text) throws LensException {
        try {
            Map<?, ?> value = (Map<?, ?>) Json.parse(text);
            Map<?, ?> space = (Map<?, ?>) value.get("space");
            Double dim = (Double) space.get("dim");
            List<Entry> found = new ArrayList<>();
            for (Object each : (List<?>) value.get("encoders")) {
                Map<?, ?> entry = (Map<?, ?>) each;
                boolean whole = "float".equals(entry.get("form")) && dim.equals(entry.get("dim"));
                if ("photo".equals(entry.get("input")) && whole) {
                    found.add(new Entry(entry));
                }
            }
            if (found.isEmpty()) {
                throw new LensException("the bundle holds no encoder of photos to float vectors");
            }
            Collections.sort(found, BEST_FIRST);
            return new Card((String) space.get("id"), dim.intValue(), found);
        } catch (IllegalArgumentException | ClassCastException | NullPointerException error) {
            throw new LensException("the bundle's card is damaged", error);
        }
    }

    // Nearest to the teacher, then larger, then more exact.
    private static final Comparator<Entry> BEST_FIRST =
            new Comparator<Entry>() {
                @Override
                public int compare(Entry a, Entry b) {
                    if (a.nearness != b.nearness) {
                        return Double.compare(b.nearness, a.nearness);
                    }
                    if (a.size != b.size) {
                        return b.size - a.size;
                    }
                    int exactness = b.exactness() - a.exactness();
                    return exactness != 0 ? exactness : Long.compare(a.bytes, b.bytes);
                }
            };
}
