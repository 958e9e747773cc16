"""Closes the loop on a data incident: detect, scope, contain, plan, recover, verify, state the loss, learn."""
