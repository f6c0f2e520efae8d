package org.pocketlens.core;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Which encoder a device should use: the best that stays within a budget of milliseconds.
 *
 * <p>The same rule as the browser's (export/web/choice.js). An encoder that was not measured is
 * taken to cost what its pixels cost beside the nearest measured one.
 */
final class Choice {
    /** The best within the budget, else the fastest; null where nothing was measured. */
    final Card.Entry use;
    /** What to measure next: the best that may fit and is better; null where there is none. */
    final Card.Entry next;

    private Choice(Card.Entry use, Card.Entry next) {
        this.use = use;
        this.next = next;
    }

    /**
     * Chooses among a card's entries.
     *
     * @param measured milliseconds by encoder digest; NaN for those that failed here
     */
    static Choice choose(List<Card.Entry> entries, Map<String, Double> measured, double budget) {
        List<Card.Entry> known = new ArrayList<>();
        Card.Entry use = null;
        Card.Entry fastest = null;
        for (Card.Entry entry : entries) {
            Double cost = measured.get(entry.encoder);
            if (cost == null || cost.isNaN()) {
                continue;
            }
            known.add(entry);
            if (use == null && cost <= budget) {
                use = entry;
            }
            if (fastest == null || cost < measured.get(fastest.encoder)) {
                fastest = entry;
            }
        }
        if (known.isEmpty()) {
            return new Choice(null, smallest(entries, measured));
        }
        for (Card.Entry entry : entries) {
            if (entry == use) {
                break;
            }
            boolean untried = !measured.containsKey(entry.encoder);
            if (untried && predict(entry, known, measured) <= budget) {
                return new Choice(use == null ? fastest : use, entry);
            }
        }
        return new Choice(use == null ? fastest : use, null);
    }

    /** Returns the smallest file of those that have not failed here; null where all have. */
    static Card.Entry smallest(List<Card.Entry> entries, Map<String, Double> measured) {
        Card.Entry least = null;
        for (Card.Entry entry : entries) {
            Double cost = measured.get(entry.encoder);
            boolean failed = cost != null && cost.isNaN();
            if (!failed && (least == null || entry.bytes < least.bytes)) {
                least = entry;
            }
        }
        return least;
    }

    private static double predict(
            Card.Entry entry, List<Card.Entry> known, Map<String, Double> measured) {
        Card.Entry nearest = known.get(0);
        for (Card.Entry other : known) {
            if (distance(other, entry) < distance(nearest, entry)) {
                nearest = other;
            }
        }
        double ratio = (double) entry.size / nearest.size;
        return measured.get(nearest.encoder) * ratio * ratio;
    }

    private static double distance(Card.Entry a, Card.Entry b) {
        return Math.abs(Math.log((double) a.size / b.size));
    }
}
