# SPDX-License-Identifier: Apache-2.0
"""OWL-ViT with a tiny model of random weights on disk: shapes, pixels, and a hub that is away."""

import json

import numpy as np
import pytest
import torch

from lerf_ros.encoders import hub
from lerf_ros.errors import EncoderUnavailableError
from lerf_ros.evaluation.owl_vit import MODEL, OwlVitDetector, corners_px

transformers = pytest.importorskip('transformers', reason='extra `openclip` is not installed')
TEXTS = ('mug', 'red mug', 'a mug ' * 20)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A complete model folder: 4 x 4 patches of 8 pixels, letters as tokens."""
    folder = tmp_path_factory.mktemp('owl')
    # Id 0 marks an unused phrase and the end of a text is its largest id.
    letters = [letter + end for letter in 'abcdefghijklmnopqrstuvwxyz' for end in ('', '</w>')]
    tokens = ['!', *letters, '<|startoftext|>', '<|endoftext|>']
    (folder / 'vocab.json').write_text(json.dumps(dict(zip(tokens, range(len(tokens))))))
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, pad_token='!',
                                                           model_max_length=16)
    images = transformers.OwlViTImageProcessor(size={'height': 32, 'width': 32})
    processor = transformers.OwlViTProcessor(image_processor=images, tokenizer=tokenizer)
    processor.save_pretrained(folder)
    size = {'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1,
            'num_attention_heads': 2}
    torch.manual_seed(0)
    model = transformers.OwlViTForObjectDetection(transformers.OwlViTConfig(
        text_config={**size, 'vocab_size': len(tokens), 'max_position_embeddings': 16,
                     'bos_token_id': len(tokens) - 2, 'eos_token_id': len(tokens) - 1},
        vision_config={**size, 'image_size': 32, 'patch_size': 8}, projection_dim=16))
    with torch.no_grad():    # random heads of full size would only say 0 and 1
        for parameter in (*model.class_head.parameters(), *model.box_head.parameters()):
            parameter *= 0.3
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope='module')
def detector(folder):
    return OwlVitDetector(str(folder))


@pytest.fixture(scope='module')
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)


def test_one_box_for_each_phrase(detector, image):
    found = detector.detect(image, TEXTS)
    assert tuple(detection.text for detection in found) == TEXTS
    for detection in found:
        assert 0.01 < detection.score < 0.99
        assert detection.box_px.shape == (4,)
        assert (detection.box_px[:2] < detection.box_px[2:]).all()
        np.testing.assert_allclose(detection.center_px, detection.box_px.reshape(2, 2).mean(0))
    assert detector.detect(image, []) == []


def test_the_best_box_is_the_one_that_transformers_reports(folder, detector, image):
    processor = transformers.OwlViTProcessor.from_pretrained(folder)
    model = transformers.OwlViTForObjectDetection.from_pretrained(folder).eval()
    inputs = processor(text=[['red mug']], images=image, return_tensors='pt')
    with torch.inference_mode():
        all_boxes = processor.image_processor.post_process_object_detection(
            model(**inputs), threshold=0.0, target_sizes=[image.shape[:2]])[0]
    assert len(all_boxes['scores']) == 16
    best = int(all_boxes['scores'].argmax())
    detection, = detector.detect(image, ['red mug'])
    assert detection.score == pytest.approx(float(all_boxes['scores'][best]), abs=1e-5)
    np.testing.assert_allclose(detection.box_px, all_boxes['boxes'][best], atol=1e-3)


def test_boxes_are_in_pixels_of_the_image_along_each_axis(detector):
    # The same picture, one colour, 3 times as wide and 2 times as high.
    small, large = (np.full((height, width, 3), (200, 90, 30), np.uint8)
                    for height, width in ((40, 60), (80, 180)))
    for a, b in zip(detector.detect(small, TEXTS), detector.detect(large, TEXTS)):
        np.testing.assert_allclose(b.box_px, a.box_px * [3, 2, 3, 2], rtol=1e-4)
        assert a.score == pytest.approx(b.score, abs=1e-6)


def test_fractions_become_corners():
    corners = corners_px(np.array([[0.5, 0.25, 0.2, 0.5]]), 200, 100)
    np.testing.assert_allclose(corners, [[80, 0, 120, 50]])    # 100 ± 20, 25 ± 25


def test_phrases_do_not_compete(detector, image):
    alone, = detector.detect(image, TEXTS[:1])
    among = detector.detect(image, TEXTS)[0]
    assert among.score == pytest.approx(alone.score, abs=1e-5)
    np.testing.assert_allclose(among.box_px, alone.box_px, atol=1e-3)


def test_no_hub_names_model_cache_and_what_to_do(monkeypatch, tmp_path):
    constants = pytest.importorskip('huggingface_hub.constants')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(hub, 'hub_reachable', lambda endpoint: False)
    with pytest.raises(EncoderUnavailableError) as raised:
        OwlVitDetector()
    for part in (MODEL, str(tmp_path), 'connect once', 'leave this rival out'):
        assert part in str(raised.value)


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(EncoderUnavailableError, match=str(tmp_path)):
        OwlVitDetector(str(tmp_path))
