"""Checkpoints of TensorFlow 1's BERT, read and written without TensorFlow.

checksum, wire, snappy, table, bundle    the file format, from the bytes up; they know nothing of BERT
sources                                  where a checkpoint's files lie: a folder, or a zip archive
names, configs                           what TensorFlow's BERT and transformers call the same things, as data
bert                                     the conversion, both ways
"""
