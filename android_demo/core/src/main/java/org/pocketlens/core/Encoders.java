package org.pocketlens.core;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * A bundle's encoders on this device: opens one, measures it, and goes on to a better one.
 *
 * <p>Not for several threads at once.
 */
public final class Encoders implements AutoCloseable {
    /** Gives the files of a bundle. */
    public interface Source {
        /** Returns the bytes of a file of the bundle. */
        byte[] read(String name) throws IOException;
    }

    private static final int WARM_UP = 2;
    private static final int ROUNDS = 5;

    public final Card card;
    private final Source source;
    private final Map<String, Double> measured;
    private Card.Entry current;
    private QueryEncoder opened;

    /**
     * Reads a bundle's card.
     *
     * @param measured milliseconds by encoder digest, NaN for those that failed; filled here, and
     *     worth keeping
     */
    public Encoders(Source source, Map<String, Double> measured) throws LensException {
        this.source = source;
        this.measured = measured;
        card = Card.read(new String(read("card.json"), StandardCharsets.UTF_8));
    }

    /** Returns the encoder that suits the budget by what is known so far. */
    public QueryEncoder open(double budgetMs) throws LensException {
        while (true) {
            Choice choice = Choice.choose(card.entries, measured, budgetMs);
            Card.Entry wanted = choice.use != null ? choice.use : choice.next;
            if (wanted == null) {
                throw new LensException("no encoder of the bundle works on this device");
            }
            if (wanted == current || tryToOpen(wanted)) {
                return opened;
            }
        }
    }

    /** Returns the entry of the encoder that is open. */
    public Card.Entry current() {
        return current;
    }

    /** Measures on a picture, and goes on to better encoders while they may fit the budget. */
    public void improve(Photo photo, double budgetMs) throws LensException {
        while (true) {
            open(budgetMs);
            measure(photo);
            Choice choice = Choice.choose(card.entries, measured, budgetMs);
            Card.Entry wanted = choice.next != null ? choice.next : choice.use;
            if (wanted == current) {
                return;
            }
            if (tryToOpen(wanted)) {
                measure(photo);
            }
        }
    }

    @Override
    public void close() {
        if (opened != null) {
            opened.close();
        }
        opened = null;
        current = null;
    }

    private boolean tryToOpen(Card.Entry entry) {
        close();
        try {
            opened = QueryEncoder.open(read(entry.file), entry.file, 0);
            current = entry;
            return true;
        } catch (LensException error) {
            measured.put(entry.encoder, Double.NaN);
            return false;
        }
    }

    private void measure(Photo photo) throws LensException {
        if (measured.containsKey(current.encoder)) {
            return;
        }
        double[] taken = new double[ROUNDS];
        for (int round = -WARM_UP; round < ROUNDS; round++) {
            long started = System.nanoTime();
            opened.encode(photo);
            if (round >= 0) {
                double micros = TimeUnit.NANOSECONDS.toMicros(System.nanoTime() - started);
                taken[round] = micros / 1000;
            }
        }
        Arrays.sort(taken);
        measured.put(current.encoder, taken[ROUNDS / 2]);
    }

    private byte[] read(String name) throws LensException {
        try {
            return source.read(name);
        } catch (IOException error) {
            throw new LensException(name + ": not in the app's bundle", error);
        }
    }
}
