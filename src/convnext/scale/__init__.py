"""Classes or vectors of large data sets, in shards, as Parquet files: `predict_dataset`.

done = predict_dataset("photos/", "convnext_tiny.fb_in1k", "answers", resume=True)
done = predict_dataset("s3://bucket/train-{000..119}.tar", "tiny.safetensors", "s3://bucket/answers",
                       runner="ray", room=Room("head:6379", workers=40))
"""

from convnext.data.parquet import TableColumns
from convnext.scale.cluster import Room
from convnext.scale.running import Summary, predict_dataset

__all__ = ["Room", "Summary", "TableColumns", "predict_dataset"]
