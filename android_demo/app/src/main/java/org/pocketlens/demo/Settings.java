package org.pocketlens.demo;

import android.content.Context;
import android.content.SharedPreferences;
import java.util.HashMap;
import java.util.Map;

/** What the app keeps: the server's address, the budget, and what encoders took on this device. */
final class Settings {
    private static final String SERVER = "server";
    private static final String BUDGET = "budget";
    private static final String MEASURED = "measured.";
    // The emulator's name of the machine that it runs on.
    private static final String DEFAULT_SERVER = "http://10.0.2.2:8000";
    private static final float DEFAULT_BUDGET = 50;

    private final SharedPreferences kept;

    Settings(Context context) {
        kept = context.getSharedPreferences("pocketlens", Context.MODE_PRIVATE);
    }

    String server() {
        return kept.getString(SERVER, DEFAULT_SERVER);
    }

    float budgetMs() {
        return kept.getFloat(BUDGET, DEFAULT_BUDGET);
    }

    /** Keeps what the user wrote; of a budget that is no number, what was there. */
    void keep(String server, String budget) {
        float ms = budgetMs();
        try {
            ms = Float.parseFloat(budget.trim());
        } catch (NumberFormatException error) {
            // Stays as it was.
        }
        kept.edit().putString(SERVER, server.trim()).putFloat(BUDGET, Math.max(1, ms)).apply();
    }

    /** Returns milliseconds by encoder digest; NaN for those that failed. */
    Map<String, Double> measured() {
        Map<String, Double> found = new HashMap<>();
        Map<String, ?> all = kept.getAll();
        for (Map.Entry<String, ?> each : all.entrySet()) {
            if (each.getKey().startsWith(MEASURED)) {
                String digest = each.getKey().substring(MEASURED.length());
                found.put(digest, ((Float) each.getValue()).doubleValue());
            }
        }
        return found;
    }

    /** Keeps what was measured. */
    void keepMeasured(Map<String, Double> measured) {
        SharedPreferences.Editor editor = kept.edit();
        for (Map.Entry<String, Double> each : measured.entrySet()) {
            editor.putFloat(MEASURED + each.getKey(), each.getValue().floatValue());
        }
        editor.apply();
    }
}
