"""WebHDFS on the data port: HDFS's REST API over the namespace, for Hadoop's own clients and those of Python."""
