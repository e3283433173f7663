"""Few labels on real CT: pre-trained against scratch against MONAI's DynUNet, in rows that can be stopped."""
