package org.pocketlens.demo;

import android.app.Application;
import android.content.Context;
import android.system.ErrnoException;
import android.system.Os;

/** Sets, before anything else of the process runs, that the runtime tells nobody of its use. */
public final class DemoApplication extends Application {
    @Override
    protected void attachBaseContext(Context base) {
        super.attachBaseContext(base);
        try {
            Os.setenv("ORT_DISABLE_TELEMETRY", "1", true);
        } catch (ErrnoException error) {
            throw new IllegalStateException(error);
        }
    }
}
