package android.app;

import android.content.Context;
import android.content.Intent;
import android.os.Bundle;
import android.view.LayoutInflater;
import android.view.View;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

public class Activity extends Context {
    public static final int RESULT_OK = -1;
    /** What it asked other apps for; taken by the test. */
    public final List<Intent> started = new ArrayList<>();
    public boolean nobodyAnswers;
    private View root;
    private boolean gone;

    protected void onCreate(Bundle state) {}

    protected void onPause() {}

    protected void onDestroy() {}

    protected void onActivityResult(int request, int result, Intent data) {}

    public void setContentView(int layout) {
        root = getLayoutInflater().inflate(layout, null, false);
    }

    public View findViewById(int id) {
        return Objects.requireNonNull(root.findViewById(id), "no view " + id);
    }

    public LayoutInflater getLayoutInflater() {
        return new LayoutInflater();
    }

    public void startActivityForResult(Intent intent, int request) {
        if (nobodyAnswers) {
            throw new android.content.ActivityNotFoundException();
        }
        intent.request = request;
        started.add(intent);
    }

    public void startActivity(Intent intent) {
        started.add(intent);
    }

    public final void runOnUiThread(Runnable action) {
        synchronized (Activity.class) {
            action.run();
        }
    }

    public void create() {
        onCreate(null);
    }

    public void answer(int request, int result, Intent data) {
        onActivityResult(request, result, data);
    }

    public void leave() {
        onPause();
        gone = true;
        onDestroy();
    }

    public boolean isDestroyed() {
        return gone;
    }

    public boolean isFinishing() {
        return gone;
    }
}
