package org.pocketlens.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Times of one encoder on this device, in the schema of every platform (docs/formats.md). */
public final class LatencyRecord {
    private static final double[] SHARES = {0.5, 0.95, 0.99};
    private static final String[] NAMES = {"p50", "p95", "p99"};

    private final Map<String, List<Double>> taken = new LinkedHashMap<>();
    private final Map<String, Object> cold = new LinkedHashMap<>();

    /** Notes what a stage (decode, network, search) of one warm picture took. */
    public void add(String stage, double ms) {
        if (!taken.containsKey(stage)) {
            taken.put(stage, new ArrayList<Double>());
        }
        taken.get(stage).add(ms);
    }

    /** Notes what something (load, first) took that happens once. */
    public void addCold(String name, double ms) {
        cold.put(name, ms);
    }

    /** Returns the record as JSON. */
    public String write(
            String device, Card.Entry entry, int threads, String picture) {
        Map<String, Object> ms = new LinkedHashMap<>();
        int rounds = Integer.MAX_VALUE;
        for (List<Double> each : taken.values()) {
            rounds = Math.min(rounds, each.size());
        }
        double[] total = new double[taken.isEmpty() ? 0 : rounds];
        for (Map.Entry<String, List<Double>> stage : taken.entrySet()) {
            double[] values = new double[total.length];
            for (int i = 0; i < total.length; i++) {
                values[i] = stage.getValue().get(i);
                total[i] += values[i];
            }
            ms.put(stage.getKey(), summarise(values));
        }
        ms.put("total", summarise(total));
        Map<String, Object> run = new LinkedHashMap<>();
        run.put("platform", "android");
        run.put("device", device);
        run.put("runtime", QueryEncoder.runtime());
        run.put("provider", "CPUExecutionProvider");
        run.put("threads", threads);
        run.put("encoder", entry.encoder);
        run.put("file", entry.file);
        run.put("size", entry.size);
        run.put("precision", entry.precision);
        run.put("picture", picture);
        run.put("rounds", total.length);
        run.put("ms", ms);
        run.put("cold_ms", cold);
        run.put("nodes", new LinkedHashMap<String, Object>());
        run.put("peak_mb", null);
        Map<String, Object> record = new LinkedHashMap<>();
        record.put("format", 1);
        record.put("runs", Collections.singletonList(run));
        return Json.write(record);
    }

    private static Map<String, Object> summarise(double[] values) {
        double[] sorted = values.clone();
        Arrays.sort(sorted);
        Map<String, Object> found = new LinkedHashMap<>();
        for (int i = 0; i < SHARES.length; i++) {
            double place = SHARES[i] * Math.max(0, sorted.length - 1);
            int below = (int) place;
            int above = Math.min(below + 1, sorted.length - 1);
            double share = place - below;
            found.put(
                    NAMES[i],
                    sorted.length == 0
                            ? 0.0
                            : sorted[below] + (sorted[above] - sorted[below]) * share);
        }
        return found;
    }
}
