package android.widget;

import android.view.View;
import android.view.ViewGroup;

public interface ListAdapter {
    int getCount();

    View getView(int position, View used, ViewGroup parent);
}
