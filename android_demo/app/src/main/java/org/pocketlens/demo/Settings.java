package org.pocketlens.demo;

import android.content.Context;
import android.content.SharedPreferences;
import java.util.HashMap;
import java.util.Map;
import org.pocketlens.core.QueryEncoder;

/** What the app keeps: the server's address, the budget, and what encoders took on this device. */
final class Settings {
    private static final String SERVER = "server";
    private static final String BUDGET = "budget";
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

    /** Returns milliseconds by encoder digest, as this version of the runtime took. */
    Map<String, Double> measured() {
        String prefix = prefix();
        Map<String, Double> found = new HashMap<>();
        Map<String, ?> all = kept.getAll();
        for (Map.Entry<String, ?> each : all.entrySet()) {
            if (each.getKey().startsWith(prefix)) {
                String digest = each.getKey().substring(prefix.length());
                found.put(digest, ((Float) each.getValue()).doubleValue());
            }
        }
        return found;
    }

    /** Keeps what was measured; what failed may work at the next start. */
    void keepMeasured(Map<String, Double> measured) {
        SharedPreferences.Editor editor = kept.edit();
        for (Map.Entry<String, Double> each : measured.entrySet()) {
            if (!each.getValue().isNaN()) {
                editor.putFloat(prefix() + each.getKey(), each.getValue().floatValue());
            }
        }
        editor.apply();
    }

    private static String prefix() {
        return "measured " + QueryEncoder.runtime() + " ";
    }
}
