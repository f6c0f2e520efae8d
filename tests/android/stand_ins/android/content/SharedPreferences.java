package android.content;

import java.util.HashMap;
import java.util.Map;

public interface SharedPreferences {
    SharedPreferences KEPT = new InMemory();

    String getString(String name, String otherwise);

    float getFloat(String name, float otherwise);

    Map<String, ?> getAll();

    Editor edit();

    interface Editor {
        Editor putString(String name, String value);

        Editor putFloat(String name, float value);

        void apply();
    }

    final class InMemory implements SharedPreferences, Editor {
        private final Map<String, Object> kept = new HashMap<>();

        @Override
        public synchronized String getString(String name, String otherwise) {
            return kept.containsKey(name) ? (String) kept.get(name) : otherwise;
        }

        @Override
        public synchronized float getFloat(String name, float otherwise) {
            return kept.containsKey(name) ? (Float) kept.get(name) : otherwise;
        }

        @Override
        public synchronized Map<String, ?> getAll() {
            return new HashMap<>(kept);
        }

        @Override
        public Editor edit() {
            return this;
        }

        @Override
        public synchronized Editor putString(String name, String value) {
            kept.put(name, value);
            return this;
        }

        @Override
        public synchronized Editor putFloat(String name, float value) {
            kept.put(name, value);
            return this;
        }

        @Override
        public void apply() {}
    }
}
