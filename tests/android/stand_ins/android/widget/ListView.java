package android.widget;

import android.view.View;

public class ListView extends View {
    public ListAdapter adapter;

    public void setAdapter(ListAdapter adapter) {
        this.adapter = adapter;
    }
}
